// The kernels of normalization.cu for arrays (R, C) whose channels are neighbours in memory: rows of features, and channels-last
// images, whose pixels are rows.
//
// A thread has WIDTH neighbouring channels, which it reads at once: 16 bytes of them where `wide` says that C is a multiple of
// such packs and arrays are aligned, else one. Of a block (lanes, rows), threadIdx.x chooses the channels, and threadIdx.y and
// blockIdx.y share their rows. Each of the gridDim.y blocks leaves a partial result, in the order (gridDim.y, C).

struct Rows {
  int64 R, C, wide;
};

template <int WIDTH>
__device__ inline I first_channel() {
  return ((I)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
}

// body(width) with the width of packs
template <class Body>
__device__ inline void with_width(Rows s, Body body) {
  if (s.wide) body(Width<LANES>());
  else body(Width<1>());
}

// use(place in memory, load(place)) for the rows of this thread. COUNT of them are loaded before the first is used.
template <int COUNT, class Load, class Use>
__device__ inline void over_own_rows(Rows s, I c, Load load, Use use) {
  if (c >= (I)s.C) return;
  I r = (I)blockIdx.y * blockDim.y + threadIdx.y, stride = (I)gridDim.y * blockDim.y;
  for (; r + (COUNT - 1) * stride < (I)s.R; r += COUNT * stride) {
    decltype(load(I(0))) loaded[COUNT];
#pragma unroll
    for (int k = 0; k < COUNT; ++k) loaded[k] = load((r + k * stride) * (I)s.C + c);
#pragma unroll
    for (int k = 0; k < COUNT; ++k) use((r + k * stride) * (I)s.C + c, loaded[k]);
  }
  for (; r < (I)s.R; r += stride) use(r * (I)s.C + c, load(r * (I)s.C + c));
}

template <int WIDTH>
__device__ inline Each<WIDTH> sum_of_block(const Each<WIDTH>& value) {
  return over_rows(value, [](Each<WIDTH> a, const Each<WIDTH>& b) {
    for (int l = 0; l < WIDTH; ++l) a.v[l] += b.v[l];
    return a;
  });
}

// the sums of term(place, k, l) over the blocks k, for each channel of this thread, shared by the threads of this block
template <int WIDTH, class Term>
__device__ inline Each<WIDTH> over_row_blocks(int64 blocks, Rows s, I c, Term term) {
  Each<WIDTH> sum = {};
  if (c < (I)s.C)
    for (I k = threadIdx.y; k < (I)blocks; k += blockDim.y)
      for (int l = 0; l < WIDTH; ++l) sum.v[l] += term(k * (I)s.C + c + l, k, l);
  return sum_of_block(sum);
}

template <int WIDTH>
__device__ inline Each<WIDTH> of_row_blocks(const A* sums, int64 blocks, Rows s, I c) {
  return over_row_blocks<WIDTH>(blocks, s, c, [&](I at, I k, int l) { return sums[at]; });
}

// how many rows block k has
__device__ inline A rows_of_block(I k, Rows s) {
  I rows = blockDim.y, count = (I)s.R, rest = count % ((I)gridDim.y * rows) - k * rows;
  return (A)(count / ((I)gridDim.y * rows) * rows + (rest < 0 ? 0 : rest > rows ? rows : rest));
}

// values of channels, beyond the last of which are zeros
template <int WIDTH>
__device__ inline Each<WIDTH> of_channels(const A* p, Rows s, I c) {
  Each<WIDTH> each = {};
  if (c < (I)s.C)
    for (int l = 0; l < WIDTH; ++l) each.v[l] = p[c + l];
  return each;
}

template <int WIDTH>
__device__ inline Each<WIDTH> inverse_std(Each<WIDTH> var, double eps) {
  for (int l = 0; l < WIDTH; ++l) var.v[l] = A(1) / sqrt(var.v[l] + (A)eps);
  return var;
}

// the first thread of a column writes
template <int WIDTH>
__device__ inline void write_channels(A* to, Rows s, I c, const Each<WIDTH>& each) {
  if (threadIdx.y == 0 && c < (I)s.C)
    for (int l = 0; l < WIDTH; ++l) to[c + l] = each.v[l];
}

template <int WIDTH>
__device__ inline void write_partial(A* to, Rows s, I c, const Each<WIDTH>& each) {
  write_channels(to + (I)blockIdx.y * (I)s.C, s, c, each);
}

extern "C" __global__ void channel_sums_of_rows(const T* x, A* sums, Rows s) {
  with_width(s, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = first_channel<WIDTH>();
    Each<WIDTH> sum = {};
    over_own_rows<4>(s, c, [&](I i) { return loaded<WIDTH>(x + i); }, [&](I i, const Pack<WIDTH>& pack) {
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) sum.v[l] += (A)pack.v[l];
    });
    write_partial(sums, s, c, sum_of_block(sum));
  });
}

// as channel_moments, for each channel of a thread
extern "C" __global__ void channel_moments_of_rows(const T* x, A* sums, A* squares, Rows s) {
  with_width(s, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = first_channel<WIDTH>();
    A count = 0;
    Each<WIDTH> shift = {}, sum = {}, square = {};
    over_own_rows<4>(s, c, [&](I i) { return loaded<WIDTH>(x + i); }, [&](I i, const Pack<WIDTH>& pack) {
      bool first = count == 0;
      count += 1;
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        A value = pack.v[l];
        // infinity would make them all NaN
        if (first && value - value == 0) shift.v[l] = value;
        sum.v[l] += value - shift.v[l];
        square.v[l] += (value - shift.v[l]) * (value - shift.v[l]);
      }
    });
    EachMoments<WIDTH> own;
    for (int l = 0; l < WIDTH; ++l) {
      A rest = count > 0 ? square.v[l] - sum.v[l] * (sum.v[l] / count) : A(0);
      own.v[l] = Moments{count, sum.v[l] + shift.v[l] * count, rest < 0 ? A(0) : rest};
    }
    own = over_rows(own, [](EachMoments<WIDTH> a, const EachMoments<WIDTH>& b) {
      for (int l = 0; l < WIDTH; ++l) a.v[l] = joined(a.v[l], b.v[l]);
      return a;
    });
    for (int l = 0; l < WIDTH; ++l) sum.v[l] = own.v[l].sum, square.v[l] = own.v[l].squares;
    write_partial(sums, s, c, sum);
    write_partial(squares, s, c, square);
  });
}

template <int WIDTH>
__device__ inline void normalize_rows(const T* x, const Each<WIDTH>& centre, const Each<WIDTH>& scale, const A* gamma,
                                      const A* beta, int64 relu, const T* residual, T* y, Rows s, I c) {
  struct Both {
    Pack<WIDTH> x, residual;
  };
  const T* other = residual ? residual : x;  // loads without a branch between them are made together
  Each<WIDTH> g = of_channels<WIDTH>(gamma, s, c), b = of_channels<WIDTH>(beta, s, c);
  auto load = [&](I i) { return Both{loaded<WIDTH>(x + i), loaded<WIDTH>(other + i)}; };
  over_own_rows<4>(s, c, load, [&](I i, const Both& both) {
    Pack<WIDTH> out;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      A value = ((A)both.x.v[l] - centre.v[l]) * scale.v[l] * g.v[l] + b.v[l];
      out.v[l] = T(output(value, relu, residual, both.residual.v[l]));
    }
    store(y + i, out);
  });
}

// with new running statistics, where there are any
extern "C" __global__ void batch_normalization_of_rows(const T* x, const A* gamma, const A* beta, double eps, int64 relu,
                                                       const T* residual, const A* sums, const A* squares, int64 blocks,
                                                       T* y, A* mean, A* var, const A* running_mean, const A* running_var,
                                                       double momentum, A* new_mean, A* new_var, Rows s) {
  with_width(s, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = first_channel<WIDTH>();
    Each<WIDTH> centre = of_row_blocks<WIDTH>(sums, blocks, s, c);
    for (int l = 0; l < WIDTH; ++l) centre.v[l] /= (A)s.R;
    Each<WIDTH> spread = over_row_blocks<WIDTH>(blocks, s, c, [&](I at, I k, int l) {
      A rows = rows_of_block(k, s), between = sums[at] / rows - centre.v[l];
      return rows > 0 ? squares[at] + between * between * rows : A(0);
    });
    for (int l = 0; l < WIDTH; ++l) spread.v[l] /= (A)s.R;
    normalize_rows(x, centre, inverse_std(spread, eps), gamma, beta, relu, residual, y, s, c);
    if (blockIdx.y > 0) return;
    write_channels(mean, s, c, centre);
    write_channels(var, s, c, spread);
    if (!running_mean) return;
    Each<WIDTH> old_mean = of_channels<WIDTH>(running_mean, s, c), old_var = of_channels<WIDTH>(running_var, s, c);
    for (int l = 0; l < WIDTH; ++l) {
      old_mean.v[l] = (A)momentum * old_mean.v[l] + A(1 - momentum) * centre.v[l];
      old_var.v[l] = (A)momentum * old_var.v[l] + A(1 - momentum) * spread.v[l];
    }
    write_channels(new_mean, s, c, old_mean);
    write_channels(new_var, s, c, old_var);
  });
}

extern "C" __global__ void normalize_of_rows(const T* x, const A* gamma, const A* beta, const A* mean, const A* var,
                                             double eps, int64 relu, const T* residual, T* y, Rows s) {
  with_width(s, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = first_channel<WIDTH>();
    Each<WIDTH> centre = of_channels<WIDTH>(mean, s, c), scale = inverse_std(of_channels<WIDTH>(var, s, c), eps);
    normalize_rows(x, centre, scale, gamma, beta, relu, residual, y, s, c);
  });
}

extern "C" __global__ void channel_products_of_rows(const T* dy, const T* x, const T* y, const A* mean, const A* var,
                                                    double eps, A* sums, A* products, Rows s) {
  with_width(s, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = first_channel<WIDTH>();
    Each<WIDTH> centre = of_channels<WIDTH>(mean, s, c), scale = inverse_std(of_channels<WIDTH>(var, s, c), eps);
    Each<WIDTH> sum = {}, product = {};
    auto load = [&](I i) { return upstream<WIDTH>(dy, x, y, i); };
    over_own_rows<2>(s, c, load, [&](I i, const Upstream<WIDTH>& packs) {
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        A d = passed(packs.dy.v[l], y, packs.y.v[l]);
        sum.v[l] += d;
        product.v[l] += d * (((A)packs.x.v[l] - centre.v[l]) * scale.v[l]);
      }
    });
    write_partial(sums, s, c, sum_of_block(sum));
    write_partial(products, s, c, sum_of_block(product));
  });
}

// `constant` statistics have no gradient
extern "C" __global__ void batch_normalization_backward_of_rows(const T* dy, const T* x, const T* y, const A* gamma,
                                                                const A* mean, const A* var, double eps, const A* sums,
                                                                const A* products, int64 blocks, T* dx, A* dgamma,
                                                                A* dbeta, int64 constant, Rows s) {
  with_width(s, [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = first_channel<WIDTH>();
    Each<WIDTH> sum = of_row_blocks<WIDTH>(sums, blocks, s, c), product = of_row_blocks<WIDTH>(products, blocks, s, c);
    Each<WIDTH> centre = of_channels<WIDTH>(mean, s, c), inv_std = inverse_std(of_channels<WIDTH>(var, s, c), eps);
    Each<WIDTH> scale = of_channels<WIDTH>(gamma, s, c), shift = {}, slope = {};
    for (int l = 0; l < WIDTH; ++l) {
      scale.v[l] *= inv_std.v[l];
      if (!constant) shift.v[l] = sum.v[l] / (A)s.R, slope.v[l] = product.v[l] / (A)s.R;
    }
    auto load = [&](I i) { return upstream<WIDTH>(dy, x, y, i); };
    over_own_rows<2>(s, c, load, [&](I i, const Upstream<WIDTH>& packs) {
      Pack<WIDTH> out;
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        A hat = ((A)packs.x.v[l] - centre.v[l]) * inv_std.v[l];
        out.v[l] = T((passed(packs.dy.v[l], y, packs.y.v[l]) - shift.v[l] - hat * slope.v[l]) * scale.v[l]);
      }
      store(dx + i, out);
    });
    if (blockIdx.y > 0) return;
    write_channels(dgamma, s, c, product);
    write_channels(dbeta, s, c, sum);
  });
}
