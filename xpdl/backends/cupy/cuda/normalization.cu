// Sums along channels, and what batch normalization makes of them, of arrays (N, C, S); S is the number of pixels of images. The
// kernels of normalization_rows.cu do the same where channels are neighbours.
//
// blockIdx.x is the channel; the threads (1, rows) of the gridDim.y blocks of a channel share its values. Each block leaves a
// partial result, in the order (gridDim.y, C); the reader adds them in that order.
//
// A thread takes packs of values: of 16 bytes where S is a multiple of them and arrays are aligned, else single ones.
//
// What there is of each channel, from gamma to its gradient, is as computed with, also where images are in half precision.

struct Channels {
  int64 N, C, S;
};

// The packs of channel c that belong to this thread: use(place in memory, load(place)). COUNT of them are loaded before the
// first is used. The division is made once: from one pack to the next of a thread, as many planes and packs are passed.
template <int WIDTH, int COUNT, class Load, class Use>
__device__ inline void over_packs(Channels s, I c, Load load, Use use) {
  I packs = (I)s.S / WIDTH, count = (I)s.N * packs, stride = (I)gridDim.y * blockDim.y;
  I j = (I)blockIdx.y * blockDim.y + threadIdx.y, plane = j / packs, pack = j % packs;
  I planes = stride / packs, rest = stride % packs;
  auto next = [&] {
    I place = (plane * (I)s.C + c) * (I)s.S + pack * WIDTH;
    plane += planes;
    pack += rest;
    if (pack >= packs) pack -= packs, ++plane;
    return place;
  };
  for (; j + (COUNT - 1) * stride < count; j += COUNT * stride) {
    I places[COUNT];
    decltype(load(I(0))) loaded[COUNT];
#pragma unroll
    for (int k = 0; k < COUNT; ++k) places[k] = next(), loaded[k] = load(places[k]);
#pragma unroll
    for (int k = 0; k < COUNT; ++k) use(places[k], loaded[k]);
  }
  for (; j < count; j += stride) {
    I place = next();
    use(place, load(place));
  }
}

__device__ inline bool is_wide(Channels s, bool aligned) { return aligned && (I)s.S % LANES == 0; }

// body(width) with the width of packs
template <class Body>
__device__ inline void with_width(Channels s, bool aligned, Body body) {
  if (is_wide(s, aligned)) body(Width<LANES>());
  else body(Width<1>());
}

// the sum of term(k) over the blocks of a channel, shared by the threads of this one
template <class Term>
__device__ inline A over_blocks(int64 blocks, Channels s, I c, Term term) {
  A sum = 0;
  for (I k = threadIdx.y; k < (I)blocks; k += blockDim.y) sum += term(k * (I)s.C + c, k);
  return over_rows(sum, added);
}

__device__ inline A of_blocks(const A* sums, int64 blocks, Channels s, I c) {
  return over_blocks(blocks, s, c, [&](I at, I k) { return sums[at]; });
}

extern "C" __global__ void channel_sums(const T* x, A* sums, Channels s) {
  I c = blockIdx.x;
  A sum = 0;
  with_width(s, is_aligned(x), [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    over_packs<WIDTH, 4>(s, c, [&](I i) { return loaded<WIDTH>(x + i); }, [&](I i, const Pack<WIDTH>& pack) {
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) sum += (A)pack.v[l];
    });
  });
  sum = over_rows(sum, added);
  if (threadIdx.y == 0) sums[(I)blockIdx.y * (I)s.C + c] = sum;
}

extern "C" __global__ void channel_totals(const A* sums, int64 blocks, T* total, int64 channels) {
  EACH(c, channels) {
    A sum = 0;
    for (I k = 0; k < (I)blocks; ++k) sum += sums[k * (I)channels + c];
    total[c] = T(sum);
  }
}

// In one pass. A thread sums differences from its first value, and their squares: as that is one of the values, what the
// squares lose to cancellation is no more than rounding times the number of a thread's values.
extern "C" __global__ void channel_moments(const T* x, A* sums, A* squares, Channels s) {
  I c = blockIdx.x;
  A count = 0, shift = 0, sum = 0, square = 0;
  with_width(s, is_aligned(x), [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    over_packs<WIDTH, 4>(s, c, [&](I i) { return loaded<WIDTH>(x + i); }, [&](I i, const Pack<WIDTH>& pack) {
      // infinity would make them all NaN
      if (count == 0 && (A)pack.v[0] - (A)pack.v[0] == 0) shift = pack.v[0];
      count += WIDTH;
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        A shifted = (A)pack.v[l] - shift;
        sum += shifted;
        square += shifted * shifted;
      }
    });
  });
  A rest = count > 0 ? square - sum * (sum / count) : A(0);
  Moments own = over_rows(Moments{count, sum + shift * count, rest < 0 ? A(0) : rest}, joined);
  if (threadIdx.y == 0) {
    sums[(I)blockIdx.y * (I)s.C + c] = own.sum;
    squares[(I)blockIdx.y * (I)s.C + c] = own.squares;
  }
}

// how many values block k of a channel has, of packs that are `wide` or not
__device__ inline A values_of_block(I k, Channels s, bool wide) {
  I width = wide ? LANES : 1, count = (I)s.N * ((I)s.S / width), rows = blockDim.y;
  I rest = count % ((I)gridDim.y * rows) - k * rows;
  return (A)width * (A)(count / ((I)gridDim.y * rows) * rows + (rest < 0 ? 0 : rest > rows ? rows : rest));
}

__device__ inline void normalized(const T* x, A centre, A scale, A g, A b, int64 relu, const T* residual, T* y, Channels s,
                                  I c) {
  bool aligned = is_aligned(x) && is_aligned(residual) && is_aligned(y);
  const T* other = residual ? residual : x;  // loads without a branch between them are made together
  with_width(s, aligned, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    struct Both {
      Pack<WIDTH> x, residual;
    };
    auto load = [&](I i) { return Both{loaded<WIDTH>(x + i), loaded<WIDTH>(other + i)}; };
    over_packs<WIDTH, 4>(s, c, load, [&](I i, const Both& both) {
      Pack<WIDTH> out;
#pragma unroll
      for (int l = 0; l < WIDTH; ++l)
        out.v[l] = T(output(((A)both.x.v[l] - centre) * scale * g + b, relu, residual, both.residual.v[l]));
      store(y + i, out);
    });
  });
}

// with new running statistics, where there are any
extern "C" __global__ void batch_normalization(const T* x, const A* gamma, const A* beta, double eps, int64 relu,
                                               const T* residual, const A* sums, const A* squares, int64 blocks, T* y,
                                               A* mean, A* var, const A* running_mean, const A* running_var,
                                               double momentum, A* new_mean, A* new_var, Channels s) {
  I c = blockIdx.x;
  bool wide = is_wide(s, is_aligned(x));
  A count = (A)(s.N * s.S);
  A centre = of_blocks(sums, blocks, s, c) / count;
  A spread = over_blocks(blocks, s, c, [&](I at, I k) {
    A values = values_of_block(k, s, wide), between = sums[at] / values - centre;
    return values > 0 ? squares[at] + between * between * values : A(0);
  }) / count;
  normalized(x, centre, A(1) / sqrt(spread + (A)eps), gamma[c], beta[c], relu, residual, y, s, c);
  if (threadIdx.y == 0 && blockIdx.y == 0) {
    mean[c] = centre;
    var[c] = spread;
    if (running_mean) {
      new_mean[c] = (A)momentum * running_mean[c] + A(1 - momentum) * centre;
      new_var[c] = (A)momentum * running_var[c] + A(1 - momentum) * spread;
    }
  }
}

extern "C" __global__ void normalize(const T* x, const A* gamma, const A* beta, const A* mean, const A* var, double eps,
                                     int64 relu, const T* residual, T* y, Channels s) {
  I c = blockIdx.x;
  normalized(x, mean[c], A(1) / sqrt(var[c] + (A)eps), gamma[c], beta[c], relu, residual, y, s, c);
}

extern "C" __global__ void channel_products(const T* dy, const T* x, const T* y, const A* mean, const A* var, double eps,
                                            A* sums, A* products, Channels s) {
  I c = blockIdx.x;
  bool aligned = is_aligned(dy) && is_aligned(x) && is_aligned(y);
  A centre = mean[c], scale = A(1) / sqrt(var[c] + (A)eps), sum = 0, product = 0;
  with_width(s, aligned, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    auto load = [&](I i) { return upstream<WIDTH>(dy, x, y, i); };
    over_packs<WIDTH, 2>(s, c, load, [&](I i, const Upstream<WIDTH>& packs) {
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        A d = passed(packs.dy.v[l], y, packs.y.v[l]);
        sum += d;
        product += d * (((A)packs.x.v[l] - centre) * scale);
      }
    });
  });
  sum = over_rows(sum, added);
  product = over_rows(product, added);
  if (threadIdx.y == 0) {
    sums[(I)blockIdx.y * (I)s.C + c] = sum;
    products[(I)blockIdx.y * (I)s.C + c] = product;
  }
}

// `constant` statistics have no gradient
extern "C" __global__ void batch_normalization_backward(const T* dy, const T* x, const T* y, const A* gamma, const A* mean,
                                                        const A* var, double eps, const A* sums, const A* products,
                                                        int64 blocks, T* dx, A* dgamma, A* dbeta, int64 constant,
                                                        Channels s) {
  I c = blockIdx.x;
  A sum = of_blocks(sums, blocks, s, c), product = of_blocks(products, blocks, s, c);
  bool aligned = is_aligned(dy) && is_aligned(x) && is_aligned(y) && is_aligned(dx);
  A centre = mean[c], inv_std = A(1) / sqrt(var[c] + (A)eps), scale = gamma[c] * inv_std;
  A count = (A)(s.N * s.S), shift = constant ? A(0) : sum / count, slope = constant ? A(0) : product / count;
  with_width(s, aligned, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    auto load = [&](I i) { return upstream<WIDTH>(dy, x, y, i); };
    over_packs<WIDTH, 2>(s, c, load, [&](I i, const Upstream<WIDTH>& packs) {
      Pack<WIDTH> out;
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        A hat = ((A)packs.x.v[l] - centre) * inv_std;
        out.v[l] = T((passed(packs.dy.v[l], y, packs.y.v[l]) - shift - hat * slope) * scale);
      }
      store(dx + i, out);
    });
  });
  if (threadIdx.y == 0 && blockIdx.y == 0) {
    dgamma[c] = product;
    dbeta[c] = sum;
  }
}
