// Pooling of (planes, H, W) by windows (KH, KW) at steps (SH, SW), with a border (PH, PW). Backward passes gather: each thread
// owns one place of the result, so that there are no atomics and equal runs give equal bits.

// in place of a tap, where no value takes the gradient
#define NO_TAP 255

struct Windows {
  int64 H, W, OH, OW, KH, KW, SH, SW, PH, PW;
};

// the windows along one axis that see place `at`, counted from the border's start: first to last
__device__ inline I first_window(I at, I size, I stride) { return at < size ? 0 : (at - size) / stride + 1; }
__device__ inline I last_window(I at, I stride, I count) {
  I last = at / stride;
  return last < count ? last : count - 1;
}

// `taps` gets the number of each maximum in its window, or is null
extern "C" __global__ void max_pooling(const T* x, T* y, uint8* taps, int64 rectified, Windows s, int64 n) {
  EACH(i, n) {
    I ow = i % (I)s.OW, oh = i / (I)s.OW % (I)s.OH, plane = i / ((I)s.OW * (I)s.OH);
    const T* image = x + plane * (I)s.H * (I)s.W;
    A best = -1 / A(0);
    // of equal ones the first in the image: the border takes nothing, also of a window that holds -inf alone
    I tap = -1;
    for (I u = 0; u < (I)s.KH; ++u) {
      I h = oh * (I)s.SH + u - (I)s.PH;
      if (h < 0 || h >= (I)s.H) continue;
      for (I v = 0; v < (I)s.KW; ++v) {
        I w = ow * (I)s.SW + v - (I)s.PW;
        if (w < 0 || w >= (I)s.W) continue;
        A seen = image[h * (I)s.W + w];
        // NaN wins, and stays
        if (tap < 0 || seen > best || seen != seen) best = seen, tap = u * (I)s.KW + v;
      }
    }
    bool dropped = rectified && best <= 0;
    y[i] = T(dropped ? A(0) : best);
    if (taps) taps[i] = dropped || best != best ? NO_TAP : tap;
  }
}

extern "C" __global__ void max_pooling_backward(const T* dy, const T* x, const T* y, T* dx, Windows s, int64 n) {
  EACH(i, n) {
    I w = i % (I)s.W, h = i / (I)s.W % (I)s.H, plane = i / ((I)s.W * (I)s.H);
    const T* image = x + plane * (I)s.H * (I)s.W;
    I outputs = plane * (I)s.OH * (I)s.OW;
    I hp = h + (I)s.PH, wp = w + (I)s.PW;
    A own = x[i], sum = 0;
    I last_h = last_window(hp, s.SH, s.OH), last_w = last_window(wp, s.SW, s.OW);
    for (I oh = first_window(hp, s.KH, s.SH); oh <= last_h; ++oh) {
      for (I ow = first_window(wp, s.KW, s.SW); ow <= last_w; ++ow) {
        I out = outputs + oh * (I)s.OW + ow;
        A best = y[out];
        if (own != best) continue;
        // the first of equal ones has it: look at what the window sees before this place in the image
        bool first = true;
        I row = hp - oh * (I)s.SH, column = wp - ow * (I)s.SW;
        for (I tap = 0; tap < row * (I)s.KW + column && first; ++tap) {
          I hh = oh * (I)s.SH + tap / (I)s.KW - (I)s.PH, ww = ow * (I)s.SW + tap % (I)s.KW - (I)s.PW;
          bool inside = hh >= 0 && hh < (I)s.H && ww >= 0 && ww < (I)s.W;
          first = !inside || (A)image[hh * (I)s.W + ww] != best;
        }
        if (first) sum += (A)dy[out];
      }
    }
    dx[i] = T(sum);
  }
}

// each place has the gradients of the windows whose `taps` name it
extern "C" __global__ void gradient_to_taps(const T* dy, const uint8* taps, T* dx, Windows s, int64 n) {
  EACH(i, n) {
    I w = i % (I)s.W, h = i / (I)s.W % (I)s.H, plane = i / ((I)s.W * (I)s.H);
    I outputs = plane * (I)s.OH * (I)s.OW, hp = h + (I)s.PH, wp = w + (I)s.PW;
    I first_w = first_window(wp, s.KW, s.SW);
    I last_h = last_window(hp, s.SH, s.OH), last_w = last_window(wp, s.SW, s.OW);
    A sum = 0;
    for (I oh = first_window(hp, s.KH, s.SH); oh <= last_h; ++oh) {
      I row = hp - oh * (I)s.SH;
      for (I ow = first_w; ow <= last_w; ++ow) {
        I out = outputs + oh * (I)s.OW + ow;
        if (taps[out] == row * (I)s.KW + wp - ow * (I)s.SW) sum += (A)dy[out];
      }
    }
    dx[i] = T(sum);
  }
}

extern "C" __global__ void average_pooling(const T* x, T* y, Windows s, int64 n) {
  EACH(i, n) {
    I ow = i % (I)s.OW, oh = i / (I)s.OW % (I)s.OH, plane = i / ((I)s.OW * (I)s.OH);
    const T* image = x + plane * (I)s.H * (I)s.W;
    A sum = 0;
    for (I u = 0; u < (I)s.KH; ++u) {
      I h = oh * (I)s.SH + u - (I)s.PH;
      if (h < 0 || h >= (I)s.H) continue;
      for (I v = 0; v < (I)s.KW; ++v) {
        I w = ow * (I)s.SW + v - (I)s.PW;
        if (w >= 0 && w < (I)s.W) sum += (A)image[h * (I)s.W + w];
      }
    }
    y[i] = T(sum / (A)(s.KH * s.KW));
  }
}

extern "C" __global__ void average_pooling_backward(const T* dy, T* dx, Windows s, int64 n) {
  EACH(i, n) {
    I w = i % (I)s.W, h = i / (I)s.W % (I)s.H, plane = i / ((I)s.W * (I)s.H);
    I hp = h + (I)s.PH, wp = w + (I)s.PW;
    I last_h = last_window(hp, s.SH, s.OH), last_w = last_window(wp, s.SW, s.OW);
    A sum = 0;
    for (I oh = first_window(hp, s.KH, s.SH); oh <= last_h; ++oh)
      for (I ow = first_window(wp, s.KW, s.SW); ow <= last_w; ++ow)
        sum += (A)dy[(plane * (I)s.OH + oh) * (I)s.OW + ow];
    dx[i] = T(sum / (A)(s.KH * s.KW));
  }
}
