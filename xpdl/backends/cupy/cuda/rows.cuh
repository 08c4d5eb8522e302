// Rows of matrices, which the threads of a block share. A block is (lanes, rows): the lanes of a row share its columns, which the
// block loads into shared memory.

__device__ inline A larger(A a, A b) { return a > b || a != a ? a : b; }

// a row's value from those of its lanes
template <class F>
__device__ inline A over_lanes(A value, F join) {
  __shared__ A part[BLOCK];
  int at = threadIdx.y * blockDim.x + threadIdx.x;
  part[at] = value;
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) part[at] = join(part[at], part[at + half]);
    __syncthreads();
  }
  A joined = part[threadIdx.y * blockDim.x];
  __syncthreads();
  return joined;
}

__device__ inline A plus(A a, A b) { return a + b; }

// The rows of a block, in one chunk; or one row in several, where it does not fit a tile.
struct Rows {
  I first, own, rows, columns;  // `own` of `rows`, from `first` on
  int chunk;                    // columns

  __device__ inline I row() const { return first + threadIdx.y; }
  __device__ inline bool is_whole() const { return columns == chunk; }
  __device__ inline I start(I c) const { return first * columns + c; }
  // columns, and values, of the chunk from column c on
  __device__ inline int width(I c) const { return (int)(columns - c < chunk ? columns - c : chunk); }
  __device__ inline int count(I c) const { return (int)own * width(c); }

  // All threads of a block meet here. What is loaded stays for a second pass where it is whole.
  __device__ inline void load(Tile<T>& tile, const T* values, I c, bool again = false) const {
    if (again && is_whole()) return;
    __syncthreads();
    tile.load(values, (int64)rows * columns, start(c), count(c));
    __syncthreads();
  }
  __device__ inline void store(const Tile<T>& tile, T* values, I c) const {
    __syncthreads();
    tile.store(values, start(c), count(c));
  }

  // use(column, place in the chunk) for those of this thread
  template <class Use>
  __device__ inline void each(I c, Use use) const {
    int before = threadIdx.y * width(c);
    if (threadIdx.y < own)
      for (int k = threadIdx.x; k < width(c); k += blockDim.x) use(c + k, before + k);
  }
};

__device__ inline Rows rows_of_block(int64 rows, int64 columns) {
  I first = (I)blockIdx.x * blockDim.y, left = (I)rows - first;
  bool whole = blockDim.y * columns <= TILE;
  return {first, left < blockDim.y ? left : (I)blockDim.y, (I)rows, (I)columns, whole ? (int)columns : TILE};
}
