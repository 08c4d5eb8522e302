// Softmax and cross entropy of (N, K) in one kernel. A block is (lanes, rows): the lanes of a row share its classes.
// Targets are labels, or weights over the classes; the pointer of the other is null.

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

__device__ inline A weight(const int64* labels, const T* weights, I row, I k, I K) {
  return labels ? A(labels[row] == k) : (A)weights[row * K + k];
}

extern "C" __global__ void softmax_with_loss(const T* x, const int64* labels, const T* weights, T* y, A* losses, int64 rows,
                                             int64 classes) {
  I row = (I)blockIdx.x * blockDim.y + threadIdx.y, K = (I)classes;
  // threads beyond the last row go along: all of a block meet at each barrier
  I end = row < (I)rows ? K : 0;
  const T* scores = x + row * K;
  A top = -1 / A(0), sum = 0, loss = 0;
  for (I k = threadIdx.x; k < end; k += blockDim.x) top = larger(scores[k], top);
  top = over_lanes(top, larger);
  for (I k = threadIdx.x; k < end; k += blockDim.x) sum += exp((A)scores[k] - top);
  A log_sum = log(over_lanes(sum, plus));
  for (I k = threadIdx.x; k < end; k += blockDim.x) {
    A log_y = (A)scores[k] - top - log_sum, w = weight(labels, weights, row, k, K);
    y[row * K + k] = T(exp(log_y));
    // a zero weight takes nothing from an infinite value
    if (w != 0) loss -= w * log_y;
  }
  loss = over_lanes(loss, plus);
  if (end && threadIdx.x == 0) losses[row] = loss;
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
  I row = (I)blockIdx.x * blockDim.y + threadIdx.y, K = (I)classes;
  I end = row < (I)rows ? K : 0;
  A total = 0;
  if (weights)
    for (I k = threadIdx.x; k < end; k += blockDim.x) total += (A)weights[row * K + k];
  total = weights ? over_lanes(total, plus) : A(1);
  A factor = (dout ? dout[0] : (A)scale) / (A)rows;
  for (I k = threadIdx.x; k < end; k += blockDim.x)
    dx[row * K + k] = T(((A)y[row * K + k] * total - weight(labels, weights, row, k, K)) * factor);
}
