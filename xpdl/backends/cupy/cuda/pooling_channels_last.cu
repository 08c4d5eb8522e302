// Pooling of channels-last images, (N, H, W, C): a thread has WIDTH neighbouring channels of a place, which it reads at once, 16
// bytes of them where `wide` says that C is a multiple of such packs and arrays are aligned, else one.

// in place of a tap, where no value takes the gradient
#define NO_TAP 255

struct Images {
  int64 H, W, OH, OW, KH, KW, SH, SW, PH, PW, C, wide;
};

// the windows along one axis that see place `at`, counted from the border's start: first to last
__device__ inline I first_window(I at, I size, I stride) { return at < size ? 0 : (at - size) / stride + 1; }
__device__ inline I last_window(I at, I stride, I count) {
  I last = at / stride;
  return last < count ? last : count - 1;
}

// body(width, image, row, column, channel, place in memory) for the places of images (height, width, C) that this thread has
template <class Body>
__device__ inline void each_place(Images s, I height, I width, int64 n, Body body) {
  auto run = [&](auto pack) {
    I packs = (I)s.C / decltype(pack)::value;
    EACH(i, n) {
      I c = i % packs * decltype(pack)::value, place = i / packs;
      body(pack, place / (width * height), place / width % height, place % width, c, place * (I)s.C + c);
    }
  };
  if (s.wide) run(Width<LANES>());
  else run(Width<1>());
}

// use(number of the tap, its pack) for the places of an image that window (oh, ow) sees
template <int WIDTH, class Use>
__device__ inline void each_tap(const T* x, Images s, I image, I oh, I ow, I c, Use use) {
  for (I u = 0; u < (I)s.KH; ++u) {
    I h = oh * (I)s.SH + u - (I)s.PH;
    if (h < 0 || h >= (I)s.H) continue;
    for (I v = 0; v < (I)s.KW; ++v) {
      I w = ow * (I)s.SW + v - (I)s.PW;
      if (w < 0 || w >= (I)s.W) continue;
      use(u * (I)s.KW + v, loaded<WIDTH>(x + ((image * (I)s.H + h) * (I)s.W + w) * (I)s.C + c));
    }
  }
}

// use(number of its tap there, place in memory) for the windows that see place (h, w)
template <class Use>
__device__ inline void each_window(Images s, I image, I h, I w, I c, Use use) {
  I hp = h + (I)s.PH, wp = w + (I)s.PW;
  I last_h = last_window(hp, s.SH, s.OH), last_w = last_window(wp, s.SW, s.OW);
  for (I oh = first_window(hp, s.KH, s.SH); oh <= last_h; ++oh)
    for (I ow = first_window(wp, s.KW, s.SW); ow <= last_w; ++ow)
      use((hp - oh * (I)s.SH) * (I)s.KW + wp - ow * (I)s.SW, ((image * (I)s.OH + oh) * (I)s.OW + ow) * (I)s.C + c);
}

// as max_pooling
extern "C" __global__ void max_pooling_channels_last(const T* x, T* y, uint8* taps, int64 relu, Images s, int64 n) {
  each_place(s, s.OH, s.OW, n, [&](auto width, I image, I oh, I ow, I c, I out) {
    constexpr int WIDTH = decltype(width)::value;
    A best[WIDTH];
    I tap[WIDTH];
    for (int l = 0; l < WIDTH; ++l) best[l] = -1 / A(0), tap[l] = -1;
    each_tap<WIDTH>(x, s, image, oh, ow, c, [&](I number, const Pack<WIDTH>& pack) {
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        A seen = pack.v[l];
        // NaN wins, and stays
        if (tap[l] < 0 || seen > best[l] || seen != seen) best[l] = seen, tap[l] = number;
      }
    });
    Pack<WIDTH> value;
    Pack<WIDTH, uint8> noted;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      bool dropped = relu && best[l] <= 0;
      value.v[l] = T(dropped ? A(0) : best[l]);
      noted.v[l] = dropped || best[l] != best[l] ? NO_TAP : tap[l];
    }
    store(y + out, value);
    if (taps) store(taps + out, noted);
  });
}

extern "C" __global__ void gradient_to_taps_channels_last(const T* dy, const uint8* taps, T* dx, Images s, int64 n) {
  each_place(s, s.H, s.W, n, [&](auto width, I image, I h, I w, I c, I place) {
    constexpr int WIDTH = decltype(width)::value;
    A sum[WIDTH] = {};
    each_window(s, image, h, w, c, [&](I number, I out) {
      Pack<WIDTH> pack = loaded<WIDTH>(dy + out);
      Pack<WIDTH, uint8> noted = loaded<WIDTH>(taps + out);
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) sum[l] += noted.v[l] == number ? (A)pack.v[l] : A(0);  // one load, whatever the taps
    });
    Pack<WIDTH> value;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) value.v[l] = T(sum[l]);
    store(dx + place, value);
  });
}

extern "C" __global__ void average_pooling_channels_last(const T* x, T* y, Images s, int64 n) {
  each_place(s, s.OH, s.OW, n, [&](auto width, I image, I oh, I ow, I c, I out) {
    constexpr int WIDTH = decltype(width)::value;
    A sum[WIDTH] = {};
    each_tap<WIDTH>(x, s, image, oh, ow, c, [&](I number, const Pack<WIDTH>& pack) {
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) sum[l] += (A)pack.v[l];
    });
    Pack<WIDTH> value;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) value.v[l] = T(sum[l] / (A)(s.KH * s.KW));
    store(y + out, value);
  });
}

extern "C" __global__ void average_pooling_backward_channels_last(const T* dy, T* dx, Images s, int64 n) {
  each_place(s, s.H, s.W, n, [&](auto width, I image, I h, I w, I c, I place) {
    constexpr int WIDTH = decltype(width)::value;
    A sum[WIDTH] = {};
    each_window(s, image, h, w, c, [&](I number, I out) {
      Pack<WIDTH> pack = loaded<WIDTH>(dy + out);
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) sum[l] += (A)pack.v[l];
    });
    Pack<WIDTH> value;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) value.v[l] = T(sum[l] / (A)(s.KH * s.KW));
    store(dx + place, value);
  });
}
