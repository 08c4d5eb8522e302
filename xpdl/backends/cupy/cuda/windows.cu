// im2col and col2im, both as gathers: each thread owns one place of the result.
//
// A column matrix has an entry for each image n, channel c, tap k of the window and position p of the output. Its order in
// memory is one of two: rows (n, p, c, k), as the function im2col gives them, or columns (c, k, n, p), for one large product.

struct Layout {
  int64 N, C, H, W, OH, OW, KH, KW, SH, SW, PH, PW, DH, DW, rows;
};

extern "C" __global__ void im2col(const T* x, T* col, Layout s, int64 n) {
  I K = (I)s.KH * (I)s.KW, P = (I)s.OH * (I)s.OW;
  EACH(i, n) {
    I image, c, k, p;
    if (s.rows) {
      k = i % K;
      c = i / K % (I)s.C;
      p = i / (K * (I)s.C) % P;
      image = i / (K * (I)s.C * P);
    } else {
      p = i % P;
      image = i / P % (I)s.N;
      k = i / (P * (I)s.N) % K;
      c = i / (P * (I)s.N * K);
    }
    I h = p / (I)s.OW * (I)s.SH + k / (I)s.KW * (I)s.DH - (I)s.PH;
    I w = p % (I)s.OW * (I)s.SW + k % (I)s.KW * (I)s.DW - (I)s.PW;
    bool inside = h >= 0 && h < (I)s.H && w >= 0 && w < (I)s.W;
    col[i] = inside ? x[((image * (I)s.C + c) * (I)s.H + h) * (I)s.W + w] : T(0.0f);
  }
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

// (C, N, P) to (N, C, P), with b[c] added where there is one, and relu if that follows
extern "C" __global__ void images_of_rows(const T* rows, const T* b, int64 rectified, T* y, int64 N, int64 C, int64 P,
                                          int64 n) {
  EACH(i, n) {
    I p = i % (I)P, c = i / (I)P % (I)C, image = i / ((I)P * (I)C);
    A v = rows[(c * (I)N + image) * (I)P + p];
    if (b) v += (A)b[c];
    y[i] = T(!rectified || v > 0 || v != v ? v : A(0));
  }
}

// (N, C, P) to (C, N, P)
extern "C" __global__ void rows_of_images(const T* y, T* rows, int64 N, int64 C, int64 P, int64 n) {
  EACH(i, n) {
    I p = i % (I)P, image = i / (I)P % (I)N, c = i / ((I)P * (I)N);
    rows[i] = y[(image * (I)C + c) * (I)P + p];
  }
}
