// Softmax along rows, as in rows.cuh, and what attention makes of scores before it: a scale, and keys that do not count.

// Of one block of queries (N, heads, queries) of attention, in whose order rows are. Query t sees keys below seen + t, of those
// that the mask (N, keys), unless that is null, has; `in_sequence` rows have one row of the mask. `first` of all `all` queries
// is the first one here.
struct Scores {
  int64 rows, columns, queries, in_sequence, seen, keys, first, all;
};

// as in xpdl/ops/attention.py
#define NEVER A(-1e30)

struct Counted {
  const bool* mask;
  I end;

  __device__ inline bool operator()(I column) const { return column < end && (!mask || mask[column]); }
};

__device__ inline Counted counted(const bool* mask, Scores s, I row) {
  return {mask ? mask + row / (I)s.in_sequence * (I)s.keys : mask, (I)s.seen + row % (I)s.queries};
}

// where the log-sum of a row lies
__device__ inline I place_of_sum(Scores s, I row) {
  return row / (I)s.queries * (I)s.all + (I)s.first + row % (I)s.queries;
}

// y may be x; log_sum, null without attention, is for the backward pass
extern "C" __global__ void softmax(const T* x, const bool* mask, T* y, T* log_sum, double scale, Scores s) {
  __shared__ Tile<T> tile;
  Rows r = rows_of_block(s.rows, s.columns);
  bool inside = threadIdx.y < r.own;
  Counted counts = counted(mask, s, inside ? r.row() : 0);
  A top = log_sum ? NEVER : -1 / A(0), sum = 0;
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(tile, x, c);
    const T* values = tile.place(r.start(c));
    r.each(c, [&](I k, int at) { top = counts(k) ? larger((A)values[at] * (A)scale, top) : top; });
  }
  top = over_lanes(top, larger);
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(tile, x, c, true);
    const T* values = tile.place(r.start(c));
    r.each(c, [&](I k, int at) { sum += counts(k) ? exp((A)values[at] * (A)scale - top) : A(0); });
  }
  sum = over_lanes(sum, plus);
  // a row without keys has zeros
  A there = log_sum && !(sum > 0) ? A(1) : sum;
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(tile, x, c, true);
    T* values = tile.place(r.start(c));
    r.each(c, [&](I k, int at) { values[at] = T(counts(k) ? exp((A)values[at] * (A)scale - top) / there : A(0)); });
    r.store(tile, y, c);
  }
  if (log_sum && inside && threadIdx.x == 0) log_sum[place_of_sum(s, r.row())] = T(top + log(there));
}

// Of the probabilities `y`. Of attention, `y` are the scores, from which they are computed again, and left in `p`; the sum of the
// row dy y is that of its gradient `dout` and its result `out`, which have `size` values. `dx` may be `dy`, and `p` may be `y`.
extern "C" __global__ void softmax_backward(const T* dy, const T* y, const bool* mask, const T* log_sum, const T* dout,
                                            const T* out, int64 size, T* p, T* dx, double scale, Scores s) {
  __shared__ Tile<T> probabilities, gradients;
  Rows r = rows_of_block(s.rows, s.columns);
  bool inside = threadIdx.y < r.own;
  A past = 0, inner = 0;
  if (log_sum && inside) {
    I row = place_of_sum(s, r.row());
    past = log_sum[row];
    for (I d = threadIdx.x; d < (I)size; d += blockDim.x) inner += (A)dout[row * (I)size + d] * (A)out[row * (I)size + d];
  }
  for (I c = 0; !log_sum && c < r.columns; c += r.chunk) {
    r.load(probabilities, y, c);
    r.load(gradients, dy, c);
    const T *values = probabilities.place(r.start(c)), *upstream = gradients.place(r.start(c));
    r.each(c, [&](I k, int at) { inner += (A)values[at] * (A)upstream[at]; });
  }
  inner = over_lanes(inner, plus);
  Counted counts = counted(mask, s, inside ? r.row() : 0);
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(probabilities, y, c, !log_sum);
    r.load(gradients, dy, c, !log_sum);
    T *values = probabilities.place(r.start(c)), *upstream = gradients.place(r.start(c));
    r.each(c, [&](I k, int at) {
      A share = !log_sum ? (A)values[at] : counts(k) ? exp((A)values[at] * (A)scale - past) : A(0);
      values[at] = T(share);
      upstream[at] = T(share * ((A)upstream[at] - inner) * (A)scale);
    });
    if (p) r.store(probabilities, p, c);
    r.store(gradients, dx, c);
  }
}
