// Transposes of matrices, by tiles in shared memory: neighbouring threads read neighbours, and write neighbours.

#define TILE 32

// y (N, columns, rows) of x (N, rows, columns); a block (TILE, .) has one tile
extern "C" __global__ void transpose(const T* x, T* y, int64 rows, int64 columns) {
  __shared__ T tile[TILE][TILE + 1];  // whose columns lie in different banks
  I across = ((I)columns + TILE - 1) / TILE, down = ((I)rows + TILE - 1) / TILE;
  I column = (I)blockIdx.x % across * TILE, row = (I)blockIdx.x / across % down * TILE;
  I matrix = (I)blockIdx.x / (across * down) * (I)rows * (I)columns;
  for (I k = threadIdx.y; k < TILE; k += blockDim.y)
    if (row + k < (I)rows && column + threadIdx.x < (I)columns)
      tile[k][threadIdx.x] = x[matrix + (row + k) * (I)columns + column + threadIdx.x];
  __syncthreads();
  for (I k = threadIdx.y; k < TILE; k += blockDim.y)
    if (column + k < (I)columns && row + threadIdx.x < (I)rows)
      y[matrix + (column + k) * (I)rows + row + threadIdx.x] = tile[threadIdx.x][k];
}

#define PARTS 64

// Of contiguous arrays that are joined: their addresses, and in a row of the result the column behind each.
struct Parts {
  int64 address[PARTS], end[PARTS];
};

// y (rows, columns) of `count` arrays (rows, .), side by side
extern "C" __global__ void join(T* y, Parts s, int64 count, int64 columns, int64 n) {
  EACH(i, n) {
    I row = i / (I)columns, column = i % (I)columns, start = 0;
    int part = 0;
    for (; part < (int)count - 1 && column >= (I)s.end[part]; ++part) start = (I)s.end[part];
    y[i] = ((const T*)s.address[part])[row * ((I)s.end[part] - start) + column - start];
  }
}

#define MOVED 5

// Of arrays that are moved at once: where they lie, to where they go, and their steps.
struct Heads {
  int64 from[MOVED], to[MOVED], steps[MOVED];
};

// Values of (N, steps, heads, size), as projections give them, to (N, heads, steps, size) in the type that is computed with;
// block (., k) moves array k
extern "C" __global__ void heads_apart(Heads s, int64 heads, int64 size, int64 rows) {
  I steps = (I)s.steps[blockIdx.y];
  const T* from = (const T*)s.from[blockIdx.y];
  A* to = (A*)s.to[blockIdx.y];
  EACH(i, rows * steps * size) {
    I d = i % (I)size, row = i / (I)size, step = row % steps, head = row / steps % (I)heads, n = row / (steps * (I)heads);
    to[i] = (A)from[((n * steps + step) * (I)heads + head) * (I)size + d];
  }
}

// the reverse; `rows` of both are all heads of all N
extern "C" __global__ void heads_beside(Heads s, int64 heads, int64 size, int64 rows) {
  I steps = (I)s.steps[blockIdx.y];
  const A* from = (const A*)s.from[blockIdx.y];
  T* to = (T*)s.to[blockIdx.y];
  EACH(i, rows * steps * size) {
    I d = i % (I)size, row = i / (I)size, head = row % (I)heads, step = row / (I)heads % steps, n = row / (steps * (I)heads);
    to[i] = T(from[((n * (I)heads + head) * steps + step) * (I)size + d]);
  }
}
