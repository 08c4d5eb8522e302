// im2col and col2im, both as gathers: each thread owns places of the result.
//
// A column matrix has an entry for each image n, channel c, tap k of the window and position p of the output. Its order in
// memory is one of two: rows (n, p, c, k), as the function im2col gives them, or columns (c, k, n, p), for one large product.

struct Layout {
  int64 N, C, H, W, OH, OW, KH, KW, SH, SW, PH, PW, DH, DW, rows;
};

// threads that share a run of positions
#define GROUP 16

// In the order of columns. A block has a band of planes (n, c), of which each tap sees a run of positions, one after the other in
// memory.
extern "C" __global__ void im2col(const T* x, T* col, Layout s, Bands bands, int64 planes) {
  __shared__ Tile<T> tile;
  int taps = (int)s.KH * (int)s.KW, positions = (int)s.OH * (int)s.OW, lane = threadIdx.x % GROUP;
  bool aligned = is_aligned(col);
  for (I k = blockIdx.x; k < (I)bands.count; k += gridDim.x) {
    Band to = band(bands, k, planes, s.OH);
    int top = to.row * (int)s.SH - (int)s.PH, bottom = top + (to.rows - 1) * (int)s.SH + ((int)s.KH - 1) * (int)s.DH;
    Band from = seen(to, top < 0 ? 0 : top, bottom < s.H ? bottom : (int)s.H - 1, s.H);
    I at = start_of(from, s.H, s.W);
    int run = to.rows * (int)s.OW;
    auto fill = [&](const T* images) {
      for (int item = threadIdx.x / GROUP; item < to.planes * taps; item += BLOCK / GROUP) {
        int plane = item / taps, tap = item % taps, u = tap / (int)s.KW, v = tap % (int)s.KW;
        I image = (to.plane + plane) / (I)s.C, channel = (to.plane + plane) % (I)s.C;
        I start = ((channel * taps + tap) * (I)s.N + image) * positions + to.row * (I)s.OW;
        int skew = (int)(start % LANES);
        for (int first = lane * LANES - skew; first < run; first += GROUP * LANES) {
          int place = first < 0 ? 0 : first, oh = quotient(place, bands.result_columns), ow = place - oh * (int)s.OW;
          Pack<LANES> pack;
#pragma unroll
          for (int l = 0; l < LANES; ++l) {
            int i = first + l;
            if (i < 0 || i >= run) continue;
            int h = (to.row + oh) * (int)s.SH + u * (int)s.DH - (int)s.PH, w = ow * (int)s.SW + v * (int)s.DW - (int)s.PW;
            bool inside = h >= 0 && h < (int)s.H && w >= 0 && w < (int)s.W;
            pack.v[l] = inside ? images[((I)plane * (I)s.H + h - from.row) * (I)s.W + w] : T(0.0f);
            if (++ow == (int)s.OW) ow = 0, ++oh;
          }
          if (aligned && first >= 0 && first + LANES <= run) {
            store(col + start + first, pack);
            continue;
          }
#pragma unroll
          for (int l = 0; l < LANES; ++l)
            if (first + l >= 0 && first + l < run) col[start + first + l] = pack.v[l];
        }
      }
    };
    if (!bands.staged) {
      fill(x + at);
      continue;
    }
    const T* images = tile.load(x, planes * s.H * s.W, at, size_of(from, s.W));
    __syncthreads();
    fill(images);
    __syncthreads();
  }
}

// In the order of rows.
extern "C" __global__ void im2col_rows(const T* x, T* col, Layout s, int64 n) {
  I K = (I)s.KH * (I)s.KW, P = (I)s.OH * (I)s.OW;
  in_packs(n, is_aligned(col), [](auto width, I i) { return Pack<decltype(width)::value>(); }, [&](auto width, I i, auto pack) {
    int v = (int)(i % (I)s.KW), u = (int)(i / (I)s.KW % (I)s.KH);
    I c = i / K % (I)s.C, p = i / (K * (I)s.C), image = p / P;
    int oh = (int)(p % P / (I)s.OW), ow = (int)(p % (I)s.OW);
#pragma unroll
    for (int l = 0; l < width.value; ++l) {
      int h = oh * (int)s.SH + u * (int)s.DH - (int)s.PH, w = ow * (int)s.SW + v * (int)s.DW - (int)s.PW;
      bool inside = h >= 0 && h < (int)s.H && w >= 0 && w < (int)s.W;
      pack.v[l] = inside ? x[((image * (I)s.C + c) * (I)s.H + h) * (I)s.W + w] : T(0.0f);
      if (++v < (int)s.KW) continue;
      v = 0;
      if (++u < (int)s.KH) continue;
      u = 0;
      if (++c < (I)s.C) continue;
      c = 0;
      if (++ow < (int)s.OW) continue;
      ow = 0;
      if (++oh < (int)s.OH) continue;
      oh = 0;
      ++image;
    }
    store(col + i, pack);
  });
}

extern "C" __global__ void col2im(const T* col, T* x, Layout s, int64 n) {
  I K = (I)s.KH * (I)s.KW, P = (I)s.OH * (I)s.OW;
  I on_image = s.rows ? P * (I)s.C * K : P, on_channel = s.rows ? K : K * (I)s.N * P;
  I on_tap = s.rows ? 1 : (I)s.N * P, on_place = s.rows ? (I)s.C * K : 1;
  EACH(i, n) {
    I w = i % (I)s.W, h = i / (I)s.W % (I)s.H, c = i / ((I)s.W * (I)s.H) % (I)s.C;
    I image = i / ((I)s.W * (I)s.H * (I)s.C);
    const T* seen = col + image * on_image + c * on_channel;
    A sum = 0;
    for (I u = 0; u < (I)s.KH; ++u) {
      I up = h + (I)s.PH - u * (I)s.DH;
      if (up < 0 || up % (I)s.SH || up / (I)s.SH >= (I)s.OH) continue;
      for (I v = 0; v < (I)s.KW; ++v) {
        I left = w + (I)s.PW - v * (I)s.DW;
        if (left < 0 || left % (I)s.SW || left / (I)s.SW >= (I)s.OW) continue;
        sum += (A)seen[(u * (I)s.KW + v) * on_tap + (up / (I)s.SH * (I)s.OW + left / (I)s.SW) * on_place];
      }
    }
    x[i] = T(sum);
  }
}

// (outer, inner, P) as (inner, outer, P), each value y = f(value, outer). Packs are of one run of P values.
template <class F>
__device__ inline void swapped(const T* x, T* y, int64 outer, int64 inner, int64 P, int64 n, int64 of_P, int64 of_outer, F f) {
  bool wide = P % LANES == 0 && is_aligned(x) && is_aligned(y);
  // the place in x of place i of y
  auto source = [&](I i, I& at_outer) {
    I line = divided(i, P, of_P), at_inner = divided(line, outer, of_outer);
    at_outer = line - at_inner * (I)outer;
    return (at_outer * (I)inner + at_inner) * (I)P + i - line * (I)P;
  };
  auto load = [&](auto width, I i) {
    I at_outer;
    return loaded<decltype(width)::value>(x + source(i, at_outer));
  };
  auto use = [&](auto width, I i, auto pack) {
    I at_outer;
    source(i, at_outer);
#pragma unroll
    for (int l = 0; l < width.value; ++l) pack.v[l] = f(pack.v[l], at_outer);
    store(y + i, pack);
  };
  in_packs(n, wide, load, use);
}

// (C, N, P) to (N, C, P), with b[c] added where there is one, and relu if that follows
extern "C" __global__ void images_of_rows(const T* rows, const T* b, int64 relu, T* y, int64 N, int64 C, int64 P,
                                          int64 of_P, int64 of_C, int64 n) {
  swapped(rows, y, C, N, P, n, of_P, of_C, [&](T value, I c) {
    A v = value;
    if (b) v += (A)b[c];
    return T(!relu || v > 0 || v != v ? v : A(0));
  });
}

// (N, C, P) to (C, N, P)
extern "C" __global__ void rows_of_images(const T* y, T* rows, int64 N, int64 C, int64 P, int64 of_P, int64 of_N, int64 n) {
  swapped(y, rows, N, C, P, n, of_P, of_N, [](T value, I image) { return value; });
}
