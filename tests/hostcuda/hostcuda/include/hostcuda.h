// CUDA C++ for g++: the built-in names, types and functions of kernels. Included before the source of each module.
#pragma once
#include "hostcuda_kernel.h"

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#define __device__
#define __global__
#define __host__
#define __shared__ static
#define __constant__
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __CUDACC_VER_MAJOR__ 12
#define __CUDACC_VER_MINOR__ 9

// ------------------------------------------------------------------------------------------------ indices and barriers

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

extern "C" {
void hostcuda_wait(int of_warp);
void* hostcuda_slot(int thread);
int hostcuda_thread();
int hostcuda_block(int count, void (*function)(void*, int), void* context, int strict);
int hostcuda_order();
unsigned hostcuda_random(unsigned below);
}

namespace hostcuda {
alignas(256) static char shared[48 << 10];

inline void wait(int of_warp) {
  uint3 own = threadIdx;
  hostcuda_wait(of_warp);
  threadIdx = own;
}
inline int warp() { return hostcuda_thread() / 32 * 32; }

// `value` of thread `lane` of the warp
template <class T>
T from_lane(T value, int lane) {
  static_assert(sizeof(T) <= 16, "shuffles of at most 16 bytes");
  std::memcpy(hostcuda_slot(hostcuda_thread()), &value, sizeof(T));
  wait(1);
  T found;
  std::memcpy(&found, hostcuda_slot(warp() + lane), sizeof(T));
  wait(1);
  return found;
}
inline int lane() { return hostcuda_thread() % 32; }
}  // namespace hostcuda

inline void __syncthreads() { hostcuda::wait(0); }
inline void __syncwarp(unsigned = ~0u) { hostcuda::wait(1); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// shuffles within parts of `width` lanes
template <class T>
T __shfl_sync(unsigned, T value, int from, int width = 32) {
  int own = hostcuda::lane();
  return hostcuda::from_lane(value, own / width * width + (from & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int bits, int width = 32) {
  int own = hostcuda::lane(), from = own ^ bits;
  return hostcuda::from_lane(value, from / width == own / width ? from : own);
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned by, int width = 32) {
  int own = hostcuda::lane(), from = own - int(by);
  return hostcuda::from_lane(value, from >= own / width * width ? from : own);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by, int width = 32) {
  int own = hostcuda::lane(), from = own + int(by);
  return hostcuda::from_lane(value, from < (own / width + 1) * width ? from : own);
}
inline unsigned __ballot_sync(unsigned, int which) {
  unsigned all = 0;
  for (int lane = 0; lane < 32; ++lane) all |= unsigned(hostcuda::from_lane(which != 0, lane)) << lane;
  return all;
}
inline int __any_sync(unsigned mask, int which) { return __ballot_sync(mask, which) != 0; }
inline int __all_sync(unsigned mask, int which) { return __ballot_sync(mask, !which) == 0; }
inline int __syncthreads_or(int which) {
  static int any;
  any = 0;
  __syncthreads();
  if (which) any = 1;
  __syncthreads();
  int found = any;
  __syncthreads();
  return found;
}

// ------------------------------------------------------------------------------------------------ atomics: one thread runs at a time

namespace hostcuda {
template <class T, class F>
T update(T* at, F f) {
  T old = *at;
  *at = f(old);
  return old;
}
}  // namespace hostcuda
#define HOSTCUDA_ATOMIC(T, name, expression) \
  inline T name(T* at, T v) {                \
    return hostcuda::update(at, [=](T old) -> T { return expression; }); \
  }
#define HOSTCUDA_ATOMICS(T)                        \
  HOSTCUDA_ATOMIC(T, atomicAdd, old + v)           \
  HOSTCUDA_ATOMIC(T, atomicExch, (void(old), v))   \
  HOSTCUDA_ATOMIC(T, atomicMax, old > v ? old : v) \
  HOSTCUDA_ATOMIC(T, atomicMin, old < v ? old : v) \
  HOSTCUDA_ATOMIC(T, atomicAnd, old & v)           \
  HOSTCUDA_ATOMIC(T, atomicOr, old | v)            \
  HOSTCUDA_ATOMIC(T, atomicXor, old ^ v)           \
  inline T atomicCAS(T* at, T compare, T v) {      \
    return hostcuda::update(at, [=](T old) -> T { return old == compare ? v : old; }); \
  }
HOSTCUDA_ATOMICS(int)
HOSTCUDA_ATOMICS(unsigned)
HOSTCUDA_ATOMICS(unsigned long long)
HOSTCUDA_ATOMIC(int, atomicSub, old - v)
HOSTCUDA_ATOMIC(unsigned, atomicSub, old - v)
HOSTCUDA_ATOMIC(unsigned, atomicInc, old >= v ? 0 : old + 1)
HOSTCUDA_ATOMIC(unsigned, atomicDec, old == 0 || old > v ? v : old - 1)
HOSTCUDA_ATOMIC(float, atomicAdd, old + v)
HOSTCUDA_ATOMIC(double, atomicAdd, old + v)
HOSTCUDA_ATOMIC(float, atomicExch, (void(old), v))

// ------------------------------------------------------------------------------------------------ bits

template <class To, class From>
inline To hostcuda_bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "types of equal size");
  To bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline int __float_as_int(float v) { return hostcuda_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return hostcuda_bits<unsigned>(v); }
inline float __int_as_float(int v) { return hostcuda_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return hostcuda_bits<float>(v); }
inline long long __double_as_longlong(double v) { return hostcuda_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return hostcuda_bits<double>(v); }
inline int __double2hiint(double v) { return int(__double_as_longlong(v) >> 32); }
inline int __double2loint(double v) { return int(__double_as_longlong(v)); }
inline double __hiloint2double(int hi, int lo) {
  return __longlong_as_double((long long)(unsigned long long)(unsigned)hi << 32 | (unsigned)lo);
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned __int128)a * b >> 64;
}
template <class T>
T __ldg(const T* at) {
  return *at;
}

// instructions of PTX; nvrtc.py puts calls of these in place of inline assembly
inline void ptx_cvt_rn_f16_f32(unsigned short& to, float v) {
  _Float16 h = v;
  std::memcpy(&to, &h, 2);
}
inline void ptx_cvt_f32_f16(float& to, unsigned short bits) {
  _Float16 h;
  std::memcpy(&h, &bits, 2);
  to = h;
}

// ------------------------------------------------------------------------------------------------ numbers

using std::abs;
using std::acos;
using std::acosh;
using std::asin;
using std::asinh;
using std::atan;
using std::atan2;
using std::atanh;
using std::cbrt;
using std::ceil;
using std::copysign;
using std::cos;
using std::cosh;
using std::erf;
using std::erfc;
using std::exp;
using std::exp2;
using std::expm1;
using std::fabs;
using std::fdim;
using std::floor;
using std::fma;
using std::fmax;
using std::fmin;
using std::fmod;
using std::frexp;
using std::hypot;
using std::ilogb;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::ldexp;
using std::lgamma;
using std::llrint;
using std::llround;
using std::log;
using std::log10;
using std::log1p;
using std::log2;
using std::logb;
using std::lrint;
using std::lround;
using std::modf;
using std::nearbyint;
using std::nextafter;
using std::pow;
using std::remainder;
using std::rint;
using std::round;
using std::signbit;
using std::sin;
using std::sinh;
using std::sqrt;
using std::tan;
using std::tanh;
using std::tgamma;
using std::trunc;

// for mixed types by the usual conversions; of NaN and a number, the number
#define HOSTCUDA_IF_NUMBERS \
  template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
HOSTCUDA_IF_NUMBERS inline std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(T(a), T(b));
  else return T(a) < T(b) ? T(b) : T(a);
}
HOSTCUDA_IF_NUMBERS inline std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin(T(a), T(b));
  else return T(b) < T(a) ? T(b) : T(a);
}
inline float rsqrt(float v) { return 1 / std::sqrt(v); }
inline double rsqrt(double v) { return 1 / std::sqrt(v); }
inline float rsqrtf(float v) { return 1 / std::sqrt(v); }
inline float exp10(float v) { return exp10f(v); }
inline float sinpi(float v) { return std::sin(float(M_PI) * v); }
inline double sinpi(double v) { return std::sin(M_PI * v); }
inline float cospi(float v) { return std::cos(float(M_PI) * v); }
inline double cospi(double v) { return std::cos(M_PI * v); }
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float v) { return v > 0 ? v < 1 ? v : 1 : 0; }
inline float __frcp_rn(float v) { return 1 / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __float2int_rn(float v) { return int(std::lrint(v)); }
inline int __float2int_rz(float v) { return int(v); }

struct float2 {
  float x, y;
};
struct double2 {
  double x, y;
};
struct int2 {
  int x, y;
};
struct float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// ------------------------------------------------------------------------------------------------ launches

template <typename T, int, bool, bool>
class CArray;

namespace hostcuda {

template <class P>
struct begins_with_address : std::is_pointer<P> {};
template <class T, int N, bool C, bool S>
struct begins_with_address<CArray<T, N, C, S>> : std::true_type {};

// Write the type of a parameter in the words of dtypes: "*float32", "int64", "struct72".
template <class P>
char* word(char* at) {
  using T = std::remove_cv_t<P>;
  if constexpr (std::is_pointer_v<T>) {
    *at++ = '*';
    return word<std::remove_pointer_t<T>>(at);
  } else if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>) {
    return at + std::sprintf(at, std::is_void_v<T> ? "void " : "bool ");
  } else {
    const char* kind = std::is_floating_point_v<T> ? "float" : !std::is_arithmetic_v<T> ? "struct"
                       : std::is_signed_v<T>       ? "int" : "uint";
    return at + std::sprintf(at, "%s%d ", kind, int(std::is_arithmetic_v<T> ? 8 * sizeof(T) : sizeof(T)));
  }
}

enum Threads {
  ALONE,     // grid-stride loops: one thread does it all
  APART,     // no barriers
  WAITING,   // barriers, at which some threads may have exited
  TOGETHER,  // barriers that all threads of a block must reach
};

// A permutation of the numbers below `count`: as numbered, reversed, or, drawn anew for each, random.
struct Permutation {
  unsigned long long count, factor = 1, offset = 0;

  explicit Permutation(unsigned long long count) : count(count) {
    if (hostcuda_order() != 2 || count < 3) return;
    const unsigned below = count < (1u << 24) ? unsigned(count) : 1u << 24;
    do factor = 1 + hostcuda_random(below - 1);
    while (common_divisor(factor, count) != 1);
    offset = hostcuda_random(below);
  }
  static unsigned long long common_divisor(unsigned long long a, unsigned long long b) {
    return b ? common_divisor(b, a % b) : a;
  }
  unsigned long long operator()(unsigned long long i) const {
    return hostcuda_order() == 1 ? count - 1 - i : (i * factor + offset) % count;
  }
};

template <auto F, Threads how>
struct Entry;
template <class... P, void (*F)(P...), Threads how>
struct Entry<F, how> {
  static constexpr std::size_t sizes[] = {sizeof(P)..., 0};
  static constexpr bool pointers[] = {begins_with_address<P>::value..., false};

  static const char* words() {
    static char all[32 * sizeof...(P) + 1];
    char* at = all;
    ((at = word<P>(at)), ...);
    return all;
  }
  template <std::size_t... K>
  static void call(void** args, std::index_sequence<K...>) {
    F(*static_cast<P*>(args[K])...);
  }
  static void thread(void* args, int t) {
    unsigned x = blockDim.x, y = blockDim.y;
    threadIdx = {t % x, t / x % y, t / (x * y)};
    call(static_cast<void**>(args), std::index_sequence_for<P...>{});
  }
  static int run(const unsigned* size, void** args, unsigned) {
    if (how == ALONE && !hostcuda_order()) {
      gridDim = {1, 1, 1};
      blockDim = {1, 1, 1};
      blockIdx = {0, 0, 0};
      thread(args, 0);
      return 0;
    }
    gridDim = {size[0], size[1], size[2]};
    blockDim = {size[3], size[4], size[5]};
    int threads = size[3] * size[4] * size[5];
    unsigned long long plane = (unsigned long long)size[0] * size[1], blocks = plane * size[2];
    const Permutation block_order(blocks);
    for (unsigned long long i = 0; i < blocks; ++i) {
      unsigned long long b = block_order(i);
      blockIdx = {unsigned(b % size[0]), unsigned(b / size[0] % size[1]), unsigned(b / plane)};
      if (how >= WAITING) {
        if (hostcuda_block(threads, thread, args, how == TOGETHER)) return 1;
        continue;
      }
      const Permutation thread_order(threads);
      for (int t = 0; t < threads; ++t) thread(args, int(thread_order(t)));
    }
    return 0;
  }
};

}  // namespace hostcuda

#define HOSTCUDA_KERNEL(symbol, function, how)                                                                  \
  extern "C" const hostcuda::Kernel hostcuda_kernel_##symbol;                                                   \
  const hostcuda::Kernel hostcuda_kernel_##symbol = {                                                           \
      #function, sizeof(hostcuda::Entry<function, hostcuda::how>::sizes) / sizeof(std::size_t) - 1,             \
      hostcuda::Entry<function, hostcuda::how>::sizes, hostcuda::Entry<function, hostcuda::how>::pointers,      \
      hostcuda::Entry<function, hostcuda::how>::run, hostcuda::Entry<function, hostcuda::how>::words};
