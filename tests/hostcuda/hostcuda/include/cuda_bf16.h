// bfloat16, as far as CuPy's headers use it.
#pragma once
#include "hostcuda.h"

struct __nv_bfloat16 {
  unsigned short bits;
  __nv_bfloat16() = default;
  // to nearest, ties to even
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  __nv_bfloat16(T number) {
    float v = float(number);
    unsigned w = __float_as_uint(v);
    bits = v != v ? 0x7fff : (unsigned short)((w + 0x7fff + ((w >> 16) & 1)) >> 16);
  }
  operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  __nv_bfloat16 v;
  v.bits = bits;
  return v;
}
inline bool __hisnan(__nv_bfloat16 v) { return std::isnan(float(v)); }
inline bool __hisinf(__nv_bfloat16 v) { return std::isinf(float(v)); }
