// Pooling of (planes, H, W) by windows (KH, KW) at steps (SH, SW), padded by (PH, PW). Backward passes gather: a thread owns a
// place of the result, so that there are no atomics and equal runs give bitwise identical results.
//
// A block has a band of the result (bands.cuh). It loads what the windows of its band see into shared memory, unless its rows are
// too long; then a band is a row, and memory is read in place.

// in place of a tap, where no value takes the gradient
#define NO_TAP 255

struct Windows {
  int64 H, W, OH, OW, KH, KW, SH, SW, PH, PW;
};

// use(i, plane of the band, row, column) for each value i of a band of the result
template <class Use>
__device__ inline void each_value(Band to, Bands s, int64 rows, int64 columns, Use use) {
#pragma unroll 1
  for (int i = threadIdx.x; i < size_of(to, columns); i += BLOCK) {
    int line = quotient(i, s.result_columns), plane = quotient(line, s.result_rows);
    use(i, plane, to.row + line - plane * (int)rows, i - line * (int)columns);
  }
}

// y = value(image, h0 and w0 of the window, tap): an image is a plane whose first row is `row`
template <class Value>
__device__ inline void forward(const T* x, T* y, uint8* taps, Windows s, Bands bands, int64 planes, Value value) {
  __shared__ Tile<T> in, out;
  __shared__ Tile<uint8> noted;
  for (I k = blockIdx.x; k < (I)bands.count; k += gridDim.x) {
    Band to = band(bands, k, planes, s.OH);
    int top = to.row * (int)s.SH - (int)s.PH, bottom = top + (to.rows - 1) * (int)s.SH + (int)s.KH - 1;
    Band from = seen(to, top < 0 ? 0 : top, bottom < s.H ? bottom : (int)s.H - 1, s.H);
    I at = start_of(from, s.H, s.W), start = start_of(to, s.OH, s.OW);
    int count = size_of(to, s.OW);
    auto fill = [&](const T* images, T* result, uint8* marks) {
      each_value(to, bands, s.OH, s.OW, [&](int i, int plane, int oh, int ow) {
        const T* image = images + (I)plane * (I)s.H * (I)s.W;
        uint8 tap = NO_TAP;
        result[i] = T(value(image, from.row, oh * (int)s.SH - (int)s.PH, ow * (int)s.SW - (int)s.PW, tap));
        if (marks) marks[i] = tap;
      });
    };
    if (!bands.staged) {
      fill(x + at, y + start, taps ? taps + start : nullptr);
      continue;
    }
    const T* images = in.load(x, planes * s.H * s.W, at, size_of(from, s.W));
    __syncthreads();
    fill(images, out.place(start), noted.place(start));
    __syncthreads();
    out.store(y, start, count);
    if (taps) noted.store(taps, start, count);
    __syncthreads();
  }
}

// `taps` gets the number of each maximum in its window, or is null
extern "C" __global__ void max_pooling(const T* x, T* y, uint8* taps, int64 relu, Windows s, Bands bands, int64 planes) {
  forward(x, y, taps, s, bands, planes, [&](const T* image, int row, int h0, int w0, uint8& tap) {
    A best = -1 / A(0);
    // of equal ones the first in the image: the border takes nothing, also of a window that holds -inf alone
    int top = -1;
    for (int u = h0 < 0 ? -h0 : 0; u < (int)s.KH && h0 + u < (int)s.H; ++u) {
      const T* values = image + (I)(h0 + u - row) * (I)s.W;
      for (int v = w0 < 0 ? -w0 : 0; v < (int)s.KW && w0 + v < (int)s.W; ++v) {
        A value = values[w0 + v];
        // NaN wins, and stays
        if (top < 0 || value > best || value != value) best = value, top = u * (int)s.KW + v;
      }
    }
    bool dropped = relu && best <= 0;
    tap = dropped || best != best ? NO_TAP : top;
    return dropped ? A(0) : best;
  });
}

extern "C" __global__ void average_pooling(const T* x, T* y, Windows s, Bands bands, int64 planes) {
  forward(x, y, nullptr, s, bands, planes, [&](const T* image, int row, int h0, int w0, uint8& tap) {
    A sum = 0;
    for (int u = h0 < 0 ? -h0 : 0; u < (int)s.KH && h0 + u < (int)s.H; ++u) {
      const T* values = image + (I)(h0 + u - row) * (I)s.W;
      for (int v = w0 < 0 ? -w0 : 0; v < (int)s.KW && w0 + v < (int)s.W; ++v) sum += (A)values[w0 + v];
    }
    return sum / (A)(s.KH * s.KW);
  });
}

// the windows along one axis that see place `at`, counted from the border's start: first to last
__device__ inline int first_window(int at, int64 size, int64 stride) {
  return at < (int)size ? 0 : quotient(at - (int)size, stride) + 1;
}
__device__ inline int last_window(int at, int64 stride, int64 count) {
  int last = quotient(at, stride);
  return last < (int)count ? last : (int)count - 1;
}

// Each place (h, w) of `dx` has, over `divisor`, the gradients of the windows for which takes(mark, place in memory, h, w, u, v)
// holds: it is tap (u, v) of the window, whose value in `marks` is the mark, 0 without marks.
template <class Mark, class Takes>
__device__ inline void gather(const T* dy, const Mark* marks, T* dx, Windows s, Bands bands, int64 planes, A divisor,
                              Takes takes) {
  __shared__ Tile<T> in, out;
  __shared__ Tile<Mark> noted;
  for (I k = blockIdx.x; k < (I)bands.count; k += gridDim.x) {
    Band to = band(bands, k, planes, s.H);
    int top = to.row + (int)s.PH, bottom = top + to.rows - 1;
    Band from = seen(to, first_window(top, s.KH, bands.stride_h), last_window(bottom, bands.stride_h, s.OH), s.OH);
    I at = start_of(from, s.OH, s.OW), start = start_of(to, s.H, s.W);
    int count = size_of(to, s.W);
    auto fill = [&](const T* gradients, const Mark* marked, T* result) {
      each_value(to, bands, s.H, s.W, [&](int i, int plane, int h, int w) {
        int hp = h + (int)s.PH, wp = w + (int)s.PW, first_w = first_window(wp, s.KW, bands.stride_w);
        int last_h = last_window(hp, bands.stride_h, s.OH), last_w = last_window(wp, bands.stride_w, s.OW);
        A sum = 0;
        for (int oh = first_window(hp, s.KH, bands.stride_h); oh <= last_h; ++oh) {
          I line = ((I)plane * (I)s.OH + oh - from.row) * (I)s.OW;
          for (int ow = first_w; ow <= last_w; ++ow)
            if (takes(marked ? marked[line + ow] : Mark(0), start + i, h, w, hp - oh * (int)s.SH, wp - ow * (int)s.SW))
              sum += (A)gradients[line + ow];
        }
        result[i] = T(sum / divisor);
      });
    };
    if (!bands.staged) {
      fill(dy + at, marks ? marks + at : marks, dx + start);
      continue;
    }
    int64 size = planes * s.OH * s.OW;
    const T* gradients = in.load(dy, size, at, size_of(from, s.OW));
    const Mark* marked = marks ? noted.load(marks, size, at, size_of(from, s.OW)) : marks;
    __syncthreads();
    fill(gradients, marked, out.place(start));
    __syncthreads();
    out.store(dx, start, count);
    __syncthreads();
  }
}

// each place has the gradients of the windows whose `taps` name it
extern "C" __global__ void gradient_to_taps(const T* dy, const uint8* taps, T* dx, Windows s, Bands bands, int64 planes) {
  gather(dy, taps, dx, s, bands, planes, A(1), [&](uint8 tap, I place, int h, int w, int u, int v) {
    return tap == u * (int)s.KW + v;
  });
}

extern "C" __global__ void max_pooling_backward(const T* dy, const T* x, const T* y, T* dx, Windows s, Bands bands,
                                                int64 planes) {
  gather(dy, y, dx, s, bands, planes, A(1), [&](T largest, I place, int h, int w, int u, int v) {
    A best = largest;
    if ((A)x[place] != best) return false;
    // the first of equal ones has it: look at what the window sees before this place in the image
    for (int du = u < h ? -u : -h; du <= 0; ++du) {
      int end = du < 0 ? (int)s.KW - v : 0, right = (int)s.W - w;
      for (int dv = v < w ? -v : -w; dv < end && dv < right; ++dv)
        if ((A)x[place + (I)du * (I)s.W + dv] == best) return false;
    }
    return true;
  });
}

extern "C" __global__ void average_pooling_backward(const T* dy, T* dx, Windows s, Bands bands, int64 planes) {
  gather(dy, (const uint8*)nullptr, dx, s, bands, planes, (A)(s.KH * s.KW),
         [](uint8 tap, I place, int h, int w, int u, int v) { return true; });
}
