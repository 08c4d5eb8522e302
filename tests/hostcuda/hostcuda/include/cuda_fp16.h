// float16, as far as CuPy's headers use it, by the compiler's own type.
#pragma once
#include "hostcuda.h"

struct __half_raw {
  unsigned short x;
};

struct __half {
  _Float16 value;
  __half() = default;
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  __half(T v) : value(_Float16(v)) {}
  __half(const __half_raw& raw) : value(hostcuda_bits<_Float16>(raw.x)) {}
  operator float() const { return value; }
  operator __half_raw() const { return {hostcuda_bits<unsigned short>(value)}; }
};
typedef __half half;

inline unsigned short __half_as_ushort(__half v) { return hostcuda_bits<unsigned short>(v.value); }
inline __half __ushort_as_half(unsigned short bits) { return __half_raw{bits}; }
inline float __half2float(__half v) { return v; }
inline __half __float2half(float v) { return v; }
inline __half __float2half_rn(float v) { return v; }
inline bool __hisnan(__half v) { return v.value != v.value; }
