// Sums along channels, and what batch normalization makes of them. Arrays are (N, C, S): S is 1 for rows of features, and the
// number of pixels for images.
//
// A block is (lanes, rows): threadIdx.x chooses the channel, threadIdx.y and blockIdx.y share its values. With S = 1 a block
// has many lanes, otherwise one, so that neighbouring threads read neighbouring places either way. Each of the gridDim.y
// blocks of a channel leaves a partial sum, in the order (gridDim.y, C); whoever reads them adds them in that order.
//
// What there is of each channel, from gamma to its gradient, is as computed with, also where images are in half precision.

struct Channels {
  int64 N, C, S;
};

__device__ inline I channel() { return (I)blockIdx.x * blockDim.x + threadIdx.x; }

// f(place in memory) for the values of channel c that belong to this thread
template <class F>
__device__ inline void over_values(Channels s, I c, F f) {
  if (c >= (I)s.C) return;
  I count = (I)s.N * (I)s.S;
  for (I j = (I)blockIdx.y * blockDim.y + threadIdx.y; j < count; j += (I)gridDim.y * blockDim.y)
    f((j / (I)s.S * (I)s.C + c) * (I)s.S + j % (I)s.S);
}

// the sum over threadIdx.y, for each threadIdx.x
__device__ inline A over_rows(A value) {
  __shared__ A part[BLOCK];
  int at = threadIdx.y * blockDim.x + threadIdx.x;
  part[at] = value;
  __syncthreads();
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    if (threadIdx.y < half) part[at] += part[at + half * blockDim.x];
    __syncthreads();
  }
  A total = part[threadIdx.x];
  __syncthreads();
  return total;
}

__device__ inline A of_blocks(const A* sums, int64 blocks, Channels s, I c) {
  A total = 0;
  for (I k = 0; k < (I)blocks; ++k) total += sums[k * (I)s.C + c];
  return total;
}

__device__ inline bool writes(Channels s, I c) { return threadIdx.y == 0 && c < (I)s.C; }

extern "C" __global__ void channel_sums(const T* x, A* sums, Channels s) {
  I c = channel();
  A sum = 0;
  over_values(s, c, [&](I i) { sum += (A)x[i]; });
  sum = over_rows(sum);
  if (writes(s, c)) sums[(I)blockIdx.y * (I)s.C + c] = sum;
}

extern "C" __global__ void channel_totals(const A* sums, int64 blocks, T* total, Channels s) {
  EACH(c, s.C) total[c] = T(of_blocks(sums, blocks, s, c));
}

// of the differences from the mean: the square of a sum would cancel against the sum of squares
extern "C" __global__ void channel_squares(const T* x, const A* sums, int64 blocks, A* squares, Channels s) {
  I c = channel();
  A mean = c < (I)s.C ? of_blocks(sums, blocks, s, c) / (A)(s.N * s.S) : A(0), sum = 0;
  over_values(s, c, [&](I i) {
    A centred = (A)x[i] - mean;
    sum += centred * centred;
  });
  sum = over_rows(sum);
  if (writes(s, c)) squares[(I)blockIdx.y * (I)s.C + c] = sum;
}

// with what follows: the sum with an addend, unless that is null, and relu, in which NaN stays NaN
__device__ inline A output(A value, int64 rectified, const T* addend, I i) {
  if (addend) value += (A)addend[i];
  return rectified && value < 0 ? A(0) : value;
}

// with new running statistics, where there are any
extern "C" __global__ void batch_normalization(const T* x, const A* gamma, const A* beta, double eps, int64 rectified,
                                               const T* addend, const A* sums, const A* squares, int64 blocks, T* y,
                                               A* mean, A* var, const A* running_mean, const A* running_var,
                                               double momentum, A* new_mean, A* new_var, Channels s) {
  I c = channel();
  if (c >= (I)s.C) return;
  A count = (A)(s.N * s.S), centre = of_blocks(sums, blocks, s, c) / count;
  A spread = of_blocks(squares, blocks, s, c) / count, scale = A(1) / sqrt(spread + (A)eps);
  A g = gamma[c], b = beta[c];
  over_values(s, c, [&](I i) { y[i] = T(output(((A)x[i] - centre) * scale * g + b, rectified, addend, i)); });
  if (writes(s, c) && blockIdx.y == 0) {
    mean[c] = centre;
    var[c] = spread;
    if (running_mean) {
      new_mean[c] = (A)momentum * running_mean[c] + A(1 - momentum) * centre;
      new_var[c] = (A)momentum * running_var[c] + A(1 - momentum) * spread;
    }
  }
}

extern "C" __global__ void normalize(const T* x, const A* gamma, const A* beta, const A* mean, const A* var, double eps,
                                     int64 rectified, const T* addend, T* y, Channels s) {
  I c = channel();
  if (c >= (I)s.C) return;
  A centre = mean[c], scale = A(1) / sqrt((A)var[c] + (A)eps), g = gamma[c], b = beta[c];
  over_values(s, c, [&](I i) { y[i] = T(output(((A)x[i] - centre) * scale * g + b, rectified, addend, i)); });
}

// of what was not rectified yet; `y` is null where nothing was
__device__ inline A upstream(const T* dy, const T* y, I i) { return !y || (A)y[i] > 0 ? (A)dy[i] : A(0); }

extern "C" __global__ void channel_products(const T* dy, const T* x, const T* y, const A* mean, const A* var, double eps,
                                            A* sums, A* products, Channels s) {
  I c = channel();
  bool there = c < (I)s.C;
  A centre = there ? mean[c] : A(0), scale = there ? A(1) / sqrt((A)var[c] + (A)eps) : A(0), sum = 0, product = 0;
  over_values(s, c, [&](I i) {
    A d = upstream(dy, y, i);
    sum += d;
    product += d * (((A)x[i] - centre) * scale);
  });
  sum = over_rows(sum);
  product = over_rows(product);
  if (writes(s, c)) {
    sums[(I)blockIdx.y * (I)s.C + c] = sum;
    products[(I)blockIdx.y * (I)s.C + c] = product;
  }
}

// `constant` statistics have no gradient
extern "C" __global__ void batch_normalization_backward(const T* dy, const T* x, const T* y, const A* gamma, const A* mean,
                                                        const A* var, double eps, const A* sums, const A* products,
                                                        int64 blocks, T* dx, A* dgamma, A* dbeta, int64 constant,
                                                        Channels s) {
  I c = channel();
  if (c >= (I)s.C) return;
  A sum = of_blocks(sums, blocks, s, c), product = of_blocks(products, blocks, s, c);
  A centre = mean[c], inv_std = A(1) / sqrt((A)var[c] + (A)eps), scale = (A)gamma[c] * inv_std;
  A count = (A)(s.N * s.S), shift = constant ? A(0) : sum / count, slope = constant ? A(0) : product / count;
  over_values(s, c, [&](I i) {
    A hat = ((A)x[i] - centre) * inv_std;
    dx[i] = T((upstream(dy, y, i) - shift - hat * slope) * scale);
  });
  if (writes(s, c) && blockIdx.y == 0) {
    dgamma[c] = product;
    dbeta[c] = sum;
  }
}
