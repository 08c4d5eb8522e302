// cub::BlockLoad, as far as CuPy's reduction kernels use it: each thread loads consecutive items.
#pragma once
#include "../../hostcuda.h"

namespace cub {

enum BlockLoadAlgorithm { BLOCK_LOAD_DIRECT };

template <class T, int BLOCK, int ITEMS, BlockLoadAlgorithm>
class BlockLoad {
 public:
  struct TempStorage {};

  explicit BlockLoad(TempStorage&) {}

  // Items beyond `valid` of the block's are `fill`.
  template <class In>
  void Load(const In* block_items, T (&items)[ITEMS], int valid, T fill) {
    for (int j = 0; j < ITEMS; ++j) {
      const int i = threadIdx.x * ITEMS + j;
      items[j] = i < valid ? T(block_items[i]) : fill;
    }
  }
};

}  // namespace cub
