// Values that one instruction reads or writes, after the types of an instance.

// as many values as 16 bytes hold
constexpr int LANES = 16 / sizeof(T);

template <int WIDTH>
struct Pack {
  T v[WIDTH];
};

struct alignas(16) Line {
  uint32 words[4];
};

template <int WIDTH>
struct Width {
  static constexpr int value = WIDTH;
};

// null, which stands for no array, is aligned
__device__ inline bool is_aligned(const void* at) { return (unsigned long long)at % sizeof(Line) == 0; }

// LANES values from aligned places only
template <int WIDTH>
__device__ inline Pack<WIDTH> loaded(const T* from) {
  Pack<WIDTH> pack;
  if constexpr (WIDTH == 1) {
    pack.v[0] = from[0];
  } else {
    Line line = *(const Line*)from;
    memcpy(&pack, &line, sizeof line);
  }
  return pack;
}

template <int WIDTH>
__device__ inline void store(T* to, const Pack<WIDTH>& pack) {
  if constexpr (WIDTH == 1) {
    to[0] = pack.v[0];
  } else {
    Line line;
    memcpy(&line, &pack, sizeof line);
    *(Line*)to = line;
  }
}
