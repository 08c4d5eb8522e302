// Bands of a result (planes, rows, columns), one of a block: some rows of one plane, or some planes. xpdl/backends/cupy/tiles.py
// cuts it so that what a band is computed from fits a tile.

// How the result (planes, rows, columns) is cut; the last four are for `quotient`.
struct Bands {
  int64 planes, rows, per_plane, count, staged;
  int64 result_rows, result_columns, stride_h, stride_w;
};

struct Band {
  I plane;
  int planes, row, rows;
};

__device__ inline Band band(Bands s, I k, int64 planes, int64 rows) {
  I plane = k / (I)s.per_plane * (I)s.planes;
  int row = (int)(k % (I)s.per_plane * (I)s.rows);
  I planes_left = (I)planes - plane, rows_left = (I)rows - row;
  return {plane, (int)(planes_left < s.planes ? planes_left : s.planes), row, (int)(rows_left < s.rows ? rows_left : s.rows)};
}

// `band` with the rows from `first` to `last` of planes with so many rows; whole planes where there are several
__device__ inline Band seen(Band band, int first, int last, int64 rows) {
  if (band.planes > 1 || first > last) return {band.plane, band.planes, 0, (int)rows};
  return {band.plane, 1, first, last - first + 1};
}

// the number of values of a band of (planes, rows, columns), and where they start
__device__ inline int size_of(Band b, int64 columns) { return b.planes * b.rows * (int)columns; }
__device__ inline I start_of(Band b, int64 rows, int64 columns) { return (b.plane * (I)rows + b.row) * (I)columns; }
