// The descriptor of a compiled kernel.
#pragma once
#include <cstddef>

namespace hostcuda {
struct Kernel {
  const char* name;
  std::size_t count;           // of parameters
  const std::size_t* sizes;    // of parameters, in bytes
  const bool* pointers;        // parameters that begin with a device address
  // Run all blocks of (grid, block), given pointers to arguments and bytes of shared memory; 1 if threads miss a barrier.
  int (*run)(const unsigned* sizes, void** args, unsigned shared);
  const char* (*words)();  // types of parameters, for checks.py
};
}  // namespace hostcuda
