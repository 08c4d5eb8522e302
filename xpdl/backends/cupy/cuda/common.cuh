// What every kernel builds on. After this text come the types of one instance: T, as stored; A, as computed with; I, of
// indices, 32 bits wide where all of an array's places fit. Nothing is included: any NVRTC compiles it, without headers.

typedef long long int64;
typedef unsigned int uint32;
typedef unsigned char uint8;

#ifndef XPDL_HOST
__device__ inline unsigned short half_bits(float v) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
  return bits;
}
__device__ inline float half_value(unsigned short bits) {
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
  return v;
}
__device__ inline uint32 float_bits(float v) { return __float_as_uint(v); }
__device__ inline float bits_float(uint32 bits) { return __uint_as_float(bits); }
#endif

struct float16 {
  unsigned short bits;
  float16() = default;
  __device__ float16(float v) : bits(half_bits(v)) {}
  __device__ operator float() const { return half_value(bits); }
};

struct bfloat16 {
  unsigned short bits;
  bfloat16() = default;
  // to nearest, ties to even, by integers: sm_75 has no instruction for it
  __device__ bfloat16(float v) {
    uint32 w = float_bits(v);
    bits = v != v ? 0x7fc0 : (unsigned short)((w + 0x7fff + ((w >> 16) & 1)) >> 16);
  }
  __device__ operator float() const { return bits_float((uint32)bits << 16); }
};

// every i below n, over all threads of the grid
#define EACH(i, n) \
  for (I i = (I)blockIdx.x * blockDim.x + threadIdx.x; i < (I)(n); i += (I)gridDim.x * blockDim.x)

#define BLOCK 256
