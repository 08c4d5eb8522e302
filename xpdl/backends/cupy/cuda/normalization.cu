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

extern "C" __global__ void batch_normalization(const T* x, const A* gamma, const A* beta, double eps, const A* sums,
                                               const A* squares, int64 blocks, T* y, T* x_hat, A* inv_std, A* mean, A* var,
                                               Channels s) {
  I c = channel();
  if (c >= (I)s.C) return;
  A count = (A)(s.N * s.S), centre = of_blocks(sums, blocks, s, c) / count;
  A spread = of_blocks(squares, blocks, s, c) / count, scale = A(1) / sqrt(spread + (A)eps);
  A g = gamma[c], b = beta[c];
  over_values(s, c, [&](I i) {
    A hat = ((A)x[i] - centre) * scale;
    x_hat[i] = T(hat);
    y[i] = T(hat * g + b);
  });
  if (writes(s, c) && blockIdx.y == 0) {
    inv_std[c] = scale;
    mean[c] = centre;
    var[c] = spread;
  }
}

extern "C" __global__ void normalize(const T* x, const A* gamma, const A* beta, const A* mean, const A* var, double eps, T* y,
                                     T* x_hat, A* inv_std, Channels s) {
  I c = channel();
  if (c >= (I)s.C) return;
  A centre = mean[c], scale = A(1) / sqrt((A)var[c] + (A)eps), g = gamma[c], b = beta[c];
  over_values(s, c, [&](I i) {
    A hat = ((A)x[i] - centre) * scale;
    x_hat[i] = T(hat);
    y[i] = T(hat * g + b);
  });
  if (writes(s, c) && blockIdx.y == 0) inv_std[c] = scale;
}

extern "C" __global__ void channel_products(const T* dy, const T* x_hat, A* sums, A* products, Channels s) {
  I c = channel();
  A sum = 0, product = 0;
  over_values(s, c, [&](I i) {
    A d = dy[i];
    sum += d;
    product += d * (A)x_hat[i];
  });
  sum = over_rows(sum);
  product = over_rows(product);
  if (writes(s, c)) {
    sums[(I)blockIdx.y * (I)s.C + c] = sum;
    products[(I)blockIdx.y * (I)s.C + c] = product;
  }
}

// `constant` statistics have no gradient
extern "C" __global__ void batch_normalization_backward(const T* dy, const T* x_hat, const A* inv_std, const A* gamma,
                                                        const A* sums, const A* products, int64 blocks, T* dx, A* dgamma,
                                                        A* dbeta, int64 constant, Channels s) {
  I c = channel();
  if (c >= (I)s.C) return;
  A sum = of_blocks(sums, blocks, s, c), product = of_blocks(products, blocks, s, c);
  A count = (A)(s.N * s.S), scale = (A)gamma[c] * (A)inv_std[c];
  A mean = constant ? A(0) : sum / count, slope = constant ? A(0) : product / count;
  over_values(s, c, [&](I i) { dx[i] = T(((A)dy[i] - mean - (A)x_hat[i] * slope) * scale); });
  if (writes(s, c) && blockIdx.y == 0) {
    dgamma[c] = product;
    dbeta[c] = sum;
  }
}
