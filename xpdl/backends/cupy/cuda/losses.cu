// Softmax and cross entropy of (N, K) in one kernel. A block is (lanes, rows): the lanes of a row share its classes, which the
// block loads into shared memory. Targets are labels, or weights over the classes; the pointer of the other is null.

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
  I first, own, rows, classes;  // `own` of `rows`, from `first` on
  int chunk;                    // classes

  __device__ inline I row() const { return first + threadIdx.y; }
  __device__ inline bool is_whole() const { return classes == chunk; }
  __device__ inline I start(I c) const { return first * classes + c; }
  // classes, and values, of the chunk from class c on
  __device__ inline int width(I c) const { return (int)(classes - c < chunk ? classes - c : chunk); }
  __device__ inline int count(I c) const { return (int)own * width(c); }

  // All threads of a block meet here. What is loaded stays for a second pass where it is whole.
  __device__ inline void load(Tile<T>& tile, const T* values, I c, bool again = false) const {
    if (again && is_whole()) return;
    __syncthreads();
    tile.load(values, (int64)rows * classes, start(c), count(c));
    __syncthreads();
  }
  __device__ inline void store(const Tile<T>& tile, T* values, I c) const {
    __syncthreads();
    tile.store(values, start(c), count(c));
  }

  // use(class, place in the chunk) for those of this thread
  template <class Use>
  __device__ inline void each_class(I c, Use use) const {
    int before = threadIdx.y * width(c);
    if (threadIdx.y < own)
      for (int k = threadIdx.x; k < width(c); k += blockDim.x) use(c + k, before + k);
  }
};

__device__ inline Rows rows_of_block(int64 rows, int64 classes) {
  I first = (I)blockIdx.x * blockDim.y, left = (I)rows - first;
  bool whole = blockDim.y * classes <= TILE;
  return {first, left < blockDim.y ? left : (I)blockDim.y, (I)rows, (I)classes, whole ? (int)classes : TILE};
}

extern "C" __global__ void softmax_with_loss(const T* x, const int64* labels, const T* weights, T* y, A* losses, int64 rows,
                                             int64 classes) {
  __shared__ Tile<T> scores, targets;
  Rows r = rows_of_block(rows, classes);
  bool inside = threadIdx.y < r.own;
  int64 label = labels && inside ? labels[r.row()] : -1;
  A top = -1 / A(0), sum = 0, loss = 0;
  for (I c = 0; c < r.classes; c += r.chunk) {
    r.load(scores, x, c);
    const T* values = scores.place(r.start(c));
    r.each_class(c, [&](I k, int at) { top = larger(values[at], top); });
  }
  top = over_lanes(top, larger);
  for (I c = 0; c < r.classes; c += r.chunk) {
    r.load(scores, x, c, true);
    const T* values = scores.place(r.start(c));
    r.each_class(c, [&](I k, int at) { sum += exp((A)values[at] - top); });
  }
  A log_sum = log(over_lanes(sum, plus));
  for (I c = 0; c < r.classes; c += r.chunk) {
    r.load(scores, x, c, true);
    if (weights) r.load(targets, weights, c);
    T* values = scores.place(r.start(c));
    const T* wanted = targets.place(r.start(c));
    r.each_class(c, [&](I k, int at) {
      A log_y = (A)values[at] - top - log_sum, w = labels ? A(label == k) : (A)wanted[at];
      values[at] = T(exp(log_y));
      // a zero weight takes nothing from an infinite value
      if (w != 0) loss -= w * log_y;
    });
    r.store(scores, y, c);
  }
  loss = over_lanes(loss, plus);
  if (inside && threadIdx.x == 0) losses[r.row()] = loss;
}

// one block
extern "C" __global__ void mean_loss(const A* losses, A* loss, int64 rows) {
  A sum = 0;
  for (I i = threadIdx.x; i < (I)rows; i += blockDim.x) sum += losses[i];
  sum = over_lanes(sum, plus);
  if (threadIdx.x == 0) loss[0] = sum / (A)rows;
}

// `dout` is a null pointer where it is the number `scale`
extern "C" __global__ void softmax_with_loss_backward(const T* y, const int64* labels, const T* weights, const A* dout,
                                                      double scale, T* dx, int64 rows, int64 classes) {
  __shared__ Tile<T> probabilities, targets;
  Rows r = rows_of_block(rows, classes);
  int64 label = labels && threadIdx.y < r.own ? labels[r.row()] : -1;
  A total = 0;
  for (I c = 0; weights && c < r.classes; c += r.chunk) {
    r.load(targets, weights, c);
    const T* wanted = targets.place(r.start(c));
    r.each_class(c, [&](I k, int at) { total += (A)wanted[at]; });
  }
  total = weights ? over_lanes(total, plus) : A(1);
  A factor = (dout ? dout[0] : (A)scale) / (A)rows;
  for (I c = 0; c < r.classes; c += r.chunk) {
    r.load(probabilities, y, c);
    if (weights) r.load(targets, weights, c, true);
    T* values = probabilities.place(r.start(c));
    const T* wanted = targets.place(r.start(c));
    r.each_class(c, [&](I k, int at) {
      values[at] = T(((A)values[at] * total - (labels ? A(label == k) : (A)wanted[at])) * factor);
    });
    r.store(probabilities, dx, c);
  }
}
