// Activations, masks and biases: one pass over memory each.

// y = f(x), value by value
template <class F>
__device__ inline void map(const T* x, T* y, int64 n, F f) {
  auto load = [&](auto width, I i) { return loaded<decltype(width)::value>(x + i); };
  in_packs(n, is_aligned(x) && is_aligned(y), load, [&](auto width, I i, auto values) {
#pragma unroll
    for (int l = 0; l < width.value; ++l) values.v[l] = T(f((A)values.v[l]));
    store(y + i, values);
  });
}

template <int WIDTH, class X>
struct Both {
  Pack<WIDTH> a;
  Pack<WIDTH, X> b;
};

// y = f(a, b), value by value
template <class X, class F>
__device__ inline void map(const T* a, const X* b, T* y, int64 n, F f) {
  auto load = [&](auto width, I i) {
    constexpr int WIDTH = decltype(width)::value;
    return Both<WIDTH, X>{loaded<WIDTH>(a + i), loaded<WIDTH>(b + i)};
  };
  in_packs(n, is_aligned(a) && is_aligned(b) && is_aligned(y), load, [&](auto width, I i, auto values) {
#pragma unroll
    for (int l = 0; l < width.value; ++l) values.a.v[l] = T(f((A)values.a.v[l], values.b.v[l]));
    store(y + i, values.a);
  });
}

// in which NaN stays NaN
__device__ inline A positive(A v) { return v > 0 || v != v ? v : A(0); }

extern "C" __global__ void add(const T* a, const T* b, T* y, int64 relu, int64 n) {
  map(a, b, y, n, [=](A v, A w) { return relu ? positive(v + w) : v + w; });
}

extern "C" __global__ void relu(const T* x, T* y, int64 n) { map(x, y, n, positive); }

extern "C" __global__ void relu_backward(const T* dy, const T* y, T* dx, int64 n) {
  map(dy, y, dx, n, [](A d, A v) { return v > 0 ? d : A(0); });
}

__device__ inline A logistic(A v) {
  A e = exp(v > 0 ? -v : v);
  return (v >= 0 ? A(1) : e) / (A(1) + e);
}

extern "C" __global__ void sigmoid(const T* x, T* y, int64 n) { map(x, y, n, logistic); }

extern "C" __global__ void sigmoid_backward(const T* dy, const T* y, T* dx, int64 n) {
  map(dy, y, dx, n, [](A d, A v) { return d * v * (A(1) - v); });
}

extern "C" __global__ void tanh_backward(const T* dy, const T* y, T* dx, int64 n) {
  map(dy, y, dx, n, [](A d, A v) { return d * (A(1) - v * v); });
}

extern "C" __global__ void leaky_relu(const T* x, T* y, double slope, int64 n) {
  map(x, y, n, [=](A v) { return v > 0 ? v : (A)slope * v; });
}

extern "C" __global__ void leaky_relu_backward(const T* dy, const T* y, T* dx, double slope, int64 n) {
  map(dy, y, dx, n, [=](A d, A v) { return v > 0 ? d : (A)slope * d; });
}

extern "C" __global__ void elu(const T* x, T* y, double alpha, int64 n) {
  map(x, y, n, [=](A v) { return v > 0 ? v : (A)alpha * expm1(v); });
}

extern "C" __global__ void elu_backward(const T* dy, const T* y, T* dx, double alpha, int64 n) {
  map(dy, y, dx, n, [=](A d, A v) { return v > 0 ? d : d * (v + (A)alpha); });
}

// the logistic function is 0 or 1 beyond
#define FAR_LOGISTIC A(1e4)

// in which NaN stays NaN
__device__ inline A clipped(A v, A limit) { return v > limit ? limit : v < -limit ? -limit : v; }

// v * share, and 0 where the share is 0, of minus infinity too
__device__ inline A share_of(A v, A share) { return share == 0 ? -A(0) : v * share; }

extern "C" __global__ void silu(const T* x, T* y, int64 n) {
  map(x, y, n, [](A v) { return share_of(v, logistic(v)); });
}

extern "C" __global__ void silu_backward(const T* dy, const T* x, T* dx, int64 n) {
  map(dy, x, dx, n, [](A d, A v) {
    A s = logistic(v), near = clipped(v, FAR_LOGISTIC);
    return d * s * (A(1) + near * (A(1) - s));
  });
}

extern "C" __global__ void softplus(const T* x, T* y, int64 n) {
  map(x, y, n, [](A v) { return positive(v) + log1p(exp(v > 0 ? -v : v)); });
}

extern "C" __global__ void softplus_backward(const T* dy, const T* y, T* dx, int64 n) {
  map(dy, y, dx, n, [](A d, A v) { return -d * expm1(-v); });
}

// the normal distribution function: erfc loses no digits in the tails
__device__ inline A normal_cdf(A v) { return A(0.5) * erfc(v * A(-0.70710678118654752)); }

// The slope inside the tanh of its approximation and the share of the cube, as in xpdl/ops/gelu.py; beyond the limits, both
// distribution functions are 0 or 1.
#define SCALE A(0.79788456080286536)
#define CUBIC A(0.044715)
#define FAR A(40)
#define FAR_TANH A(12)

__device__ inline A tanh_cdf(A near) { return A(0.5) * (A(1) + tanh(SCALE * (near + CUBIC * near * near * near))); }

extern "C" __global__ void gelu(const T* x, T* y, int64 by_tanh, int64 n) {
  if (by_tanh) map(x, y, n, [](A v) { return share_of(v, tanh_cdf(clipped(v, FAR_TANH))); });
  else map(x, y, n, [](A v) { return share_of(v, normal_cdf(clipped(v, FAR))); });
}

extern "C" __global__ void gelu_backward(const T* dy, const T* x, T* dx, int64 by_tanh, int64 n) {
  if (by_tanh)
    map(dy, x, dx, n, [](A d, A v) {
      A near = clipped(v, FAR_TANH), cdf = tanh_cdf(near);
      return d * (cdf + near * A(2) * cdf * (A(1) - cdf) * SCALE * (A(1) + A(3) * CUBIC * near * near));
    });
  else
    map(dy, x, dx, n, [](A d, A v) {
      A near = clipped(v, FAR);
      return d * (normal_cdf(near) + near * exp(A(-0.5) * near * near) * A(0.39894228040143268));
    });
}

// b[c], unless that is null, added to y, whose axes are (..., C, inner), and relu if that follows
extern "C" __global__ void add_bias(T* y, const T* b, int64 relu, int64 channels, int64 inner, int64 n) {
  // a pack is of one channel, or of neighbours that lie in b as in y
  bool neighbours = inner == 1, wide = is_aligned(y) && is_aligned(b) && (I)(neighbours ? channels : inner) % LANES == 0;
  auto load = [&](auto width, I i) { return loaded<decltype(width)::value>(y + i); };
  in_packs(n, wide, load, [&](auto width, I i, auto values) {
    constexpr int WIDTH = decltype(width)::value;
    Pack<WIDTH> bias;
    if (b && neighbours) bias = loaded<WIDTH>(b + i % (I)channels);
    else if (b) bias.v[0] = b[i / (I)inner % (I)channels];
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      A v = values.v[l];
      if (b) v += (A)(neighbours ? bias.v[l] : bias.v[0]);
      values.v[l] = T(relu ? positive(v) : v);
    }
    store(y + i, values);
  });
}

extern "C" __global__ void dropout(const T* x, const bool* mask, T* y, double scale, int64 n) {
  map(x, mask, y, n, [=](A v, bool kept) { return kept ? v * (A)scale : A(0); });
}

__device__ inline uint32 hashed(uint32 h) {
  h = (h ^ (h >> 16)) * 0x7feb352du;
  h = (h ^ (h >> 15)) * 0x846ca68bu;
  return h ^ (h >> 16);
}

// The hash of xpdl.backends.random, bit for bit; both keys by value, or in device memory. It is of a value's number in the
// order of axes: of a mask (N, pixels, channels) in memory, that is in (N, channels, pixels).
extern "C" __global__ void dropout_mask(bool* mask, int64 first_key, int64 second_key, const int64* keys, int64 threshold,
                                        int64 channels, int64 pixels, int64 n) {
  if (keys) first_key = keys[0], second_key = keys[1];
  in_packs(n, is_aligned(mask), [](auto width, I i) { return Pack<decltype(width)::value, bool>(); },
           [&](auto width, I i, auto kept) {
#pragma unroll
             for (int l = 0; l < width.value; ++l) {
               I place = i + l;
               if (channels > 1) {
                 I c = place % (I)channels, pixel = place / (I)channels;
                 place = (pixel / (I)pixels * (I)channels + c) * (I)pixels + pixel % (I)pixels;
               }
               uint32 bits = hashed(hashed((uint32)place ^ (uint32)first_key) ^ (uint32)second_key) >> 8;
               kept.v[l] = bits >= (uint32)threshold;
             }
             store(mask + i, kept);
           });
}
