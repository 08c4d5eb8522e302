// Values that one instruction reads or writes; it stands behind the types of an instance.

// as many as 16 bytes hold
enum : int { LANES = 16 / sizeof(T) };

template <int WIDTH, class X = T>
struct Pack {
  X v[WIDTH];
};

// what one instruction moves
template <int BYTES>
struct alignas(BYTES) Line {
  uint32 words[BYTES / 4];
};
template <>
struct alignas(2) Line<2> {
  unsigned short words[1];
};

template <int WIDTH>
struct Width {
  static constexpr int value = WIDTH;
};

// whether LANES values can be read there at once; null, which stands for no array, is aligned
template <class X>
__device__ inline bool is_aligned(const X* at) {
  return (unsigned long long)at % (LANES * sizeof(X)) == 0;
}

// LANES values from aligned places only
template <int WIDTH, class X>
__device__ inline Pack<WIDTH, X> loaded(const X* from) {
  Pack<WIDTH, X> pack;
  if constexpr (WIDTH == 1) {
    pack.v[0] = from[0];
  } else {
    typedef Line<sizeof pack> Whole;
    Whole line = *(const Whole*)from;
    memcpy(&pack, &line, sizeof line);
  }
  return pack;
}

template <int WIDTH, class X>
__device__ inline void store(X* to, const Pack<WIDTH, X>& pack) {
  if constexpr (WIDTH == 1) {
    to[0] = pack.v[0];
  } else {
    typedef Line<sizeof pack> Whole;
    Whole line;
    memcpy(&line, &pack, sizeof line);
    *(Whole*)to = line;
  }
}

// use(width, place, load(width, place)) for `count` packs from `start` on, over all threads of the grid. Four are loaded before
// the first is used.
template <int WIDTH, class Load, class Use>
__device__ inline void each_pack(I start, I count, Load load, Use use) {
  Width<WIDTH> width;
  I stride = (I)gridDim.x * blockDim.x, k = (I)blockIdx.x * blockDim.x + threadIdx.x;
  for (; k + 3 * stride < count; k += 4 * stride) {
    decltype(load(width, I(0))) packs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) packs[j] = load(width, start + (k + j * stride) * WIDTH);
#pragma unroll
    for (int j = 0; j < 4; ++j) use(width, start + (k + j * stride) * WIDTH, packs[j]);
  }
  for (; k < count; k += stride) use(width, start + k * WIDTH, load(width, start + k * WIDTH));
}

// the same for n values side by side, the last ones, or all that are not aligned, one by one
template <class Load, class Use>
__device__ inline void in_packs(int64 n, bool aligned, Load load, Use use) {
  I packs = aligned ? (I)n / LANES : 0;
  each_pack<LANES>(0, packs, load, use);
  each_pack<1>(packs * LANES, (I)n - packs * LANES, load, use);
}
