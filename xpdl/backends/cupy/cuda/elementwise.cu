// Activations, masks and biases: one pass over memory each.

extern "C" __global__ void relu(const T* x, T* y, int64 n) {
  EACH(i, n) {
    A v = x[i];
    y[i] = T(v > 0 || v != v ? v : A(0));
  }
}

extern "C" __global__ void relu_backward(const T* dy, const T* y, T* dx, int64 n) {
  EACH(i, n) dx[i] = T((A)y[i] > 0 ? (A)dy[i] : A(0));
}

extern "C" __global__ void sigmoid(const T* x, T* y, int64 n) {
  EACH(i, n) {
    A v = x[i], e = exp(v > 0 ? -v : v);
    y[i] = T((v >= 0 ? A(1) : e) / (A(1) + e));
  }
}

extern "C" __global__ void sigmoid_backward(const T* dy, const T* y, T* dx, int64 n) {
  EACH(i, n) {
    A v = y[i];
    dx[i] = T((A)dy[i] * v * (A(1) - v));
  }
}

extern "C" __global__ void tanh_backward(const T* dy, const T* y, T* dx, int64 n) {
  EACH(i, n) {
    A v = y[i];
    dx[i] = T((A)dy[i] * (A(1) - v * v));
  }
}

// b[c], unless that is null, added to y, whose axes are (..., C, inner), and relu if that follows
extern "C" __global__ void add_bias(T* y, const T* b, int64 rectified, int64 channels, int64 inner, int64 n) {
  EACH(i, n) {
    A v = y[i];
    if (b) v += (A)b[i / (I)inner % (I)channels];
    y[i] = T(!rectified || v > 0 || v != v ? v : A(0));
  }
}

extern "C" __global__ void dropout(const T* x, const bool* mask, T* y, double scale, int64 n) {
  EACH(i, n) y[i] = T(mask[i] ? (A)x[i] * (A)scale : A(0));
}

__device__ inline uint32 hashed(uint32 h) {
  h = (h ^ (h >> 16)) * 0x7feb352du;
  h = (h ^ (h >> 15)) * 0x846ca68bu;
  return h ^ (h >> 16);
}

// the hash of xpdl.backends.random, bit for bit; both keys by value, or in device memory
extern "C" __global__ void dropout_mask(bool* mask, int64 first_key, int64 second_key, const int64* keys, int64 threshold,
                                        int64 n) {
  if (keys) first_key = keys[0], second_key = keys[1];
  EACH(i, n) {
    uint32 bits = hashed(hashed((uint32)i ^ (uint32)first_key) ^ (uint32)second_key) >> 8;
    mask[i] = bits >= (uint32)threshold;
  }
}
