// Tiles in shared memory: a block loads what its threads read, and stores what they compute, 16 bytes at a time, whatever the
// sizes of rows and windows are. It stands behind packs.cuh.

// as in xpdl/backends/cupy/tiles.py
#define TILE_BYTES (8 << 10)
enum : int { TILE = TILE_BYTES / sizeof(T) };
// packs of a full tile that a thread has, loaded before the first is stored
#define PACKS (TILE_BYTES / 16 / BLOCK)

__device__ inline int thread_of_block() { return threadIdx.y * blockDim.x + threadIdx.x; }

// TILE values of type X. A value lies at the same place of a pack here and in its array.
template <class X>
struct alignas(16) Tile {
  enum : int { WIDTH = 16 / sizeof(X) };
  X values[TILE + WIDTH];

  static __device__ inline int skew(I start) { return (int)(start % WIDTH); }
  static __device__ inline bool has_packs(const X* array) { return (unsigned long long)array % 16 == 0; }

  // where value `start` of an array lies
  __device__ inline X* place(I start) { return values + skew(start); }

  // Load `count` values of an array of `size` from `start` on, and return place(start). Their packs are loaded whole.
  __device__ inline const X* load(const X* array, int64 size, I start, int count) {
    int first = skew(start), end = first + count, packs = 0;
    const X* from = array + (start - first);
    if (has_packs(array)) {
      int64 whole = (size - (start - first)) / WIDTH;
      packs = (end + WIDTH - 1) / WIDTH;
      if (whole < packs) packs = (int)whole;
    }
    copy_packs(from, values, 0, packs);
    copy(from, values, packs ? packs * WIDTH : first, end);
    return values + first;
  }

  // Store `count` values of place(start) to an array from `start` on.
  __device__ inline void store(X* array, I start, int count) const {
    int first = skew(start), end = first + count;
    X* to = array + (start - first);
    int head = (first + WIDTH - 1) / WIDTH, tail = end / WIDTH;  // whole packs
    if (!has_packs(array) || head >= tail) return copy(values, to, first, end);
    copy(values, to, first, head * WIDTH);
    copy_packs(values, to, head, tail);
    copy(values, to, tail * WIDTH, end);
  }

 private:
  static __device__ inline void copy(const X* from, X* to, int first, int end) {
#pragma unroll 1
    for (int k = first + thread_of_block(); k < end; k += BLOCK) to[k] = from[k];
  }

  // the packs from `first` to `end`, PACKS of a thread in flight
  static __device__ inline void copy_packs(const X* from, X* to, int first, int end) {
#pragma unroll 1
    for (int k = first + thread_of_block(); k < end; k += PACKS * BLOCK) {
      Line<16> lines[PACKS];
#pragma unroll
      for (int j = 0; j < PACKS; ++j)
        if (k + j * BLOCK < end) lines[j] = ((const Line<16>*)from)[k + j * BLOCK];
#pragma unroll
      for (int j = 0; j < PACKS; ++j)
        if (k + j * BLOCK < end) ((Line<16>*)to)[k + j * BLOCK] = lines[j];
    }
  }
};

// n / d by a multiplication, for n from 0 to 2^31 - 1; `divisor` is what tiles.py makes of d (Granlund and Montgomery, 1994)
__device__ inline int quotient(int n, int64 divisor) {
  uint32 high = (uint32)((unsigned long long)(uint32)n * (uint32)divisor >> 32);
  return (int)((high + (uint32)n) >> (int)(divisor >> 32));
}
// the same for an index, which needs no more than 31 bits where I has 32
__device__ inline I divided(I n, int64 d, int64 divisor) {
  if constexpr (sizeof(I) == 4) return quotient((int)n, divisor);
  else return n / (I)d;
}
