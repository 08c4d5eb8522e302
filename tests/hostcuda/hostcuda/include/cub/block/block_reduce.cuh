// cub::BlockReduce, as far as CuPy's reduction kernels use it: a tree in shared memory.
#pragma once
#include "../../hostcuda.h"

namespace cub {

template <class T, int BLOCK>
class BlockReduce {
 public:
  struct TempStorage {
    alignas(T) unsigned char bytes[BLOCK * sizeof(T)];
  };

  explicit BlockReduce(TempStorage& storage) : values(reinterpret_cast<T*>(storage.bytes)) {}

  template <int ITEMS, class Op>
  T Reduce(const T (&items)[ITEMS], Op op) {
    T total = items[0];
    for (int j = 1; j < ITEMS; ++j) total = op(total, items[j]);
    return Reduce(total, op);
  }
  template <class Op>
  T Reduce(T value, Op op) {
    static_assert((BLOCK & (BLOCK - 1)) == 0, "a power of two");
    const int t = threadIdx.x;
    values[t] = value;
    __syncthreads();
    for (int half = BLOCK / 2; half; half /= 2) {
      if (t < half) values[t] = op(values[t], values[t + half]);
      __syncthreads();
    }
    return values[0];
  }

 private:
  T* values;
};

}  // namespace cub
