// What differs from one repetition of a captured step to the next: it comes by value with a launch before each.

struct DeviceArgs {
  int64 value[64];
};

extern "C" __global__ void put(int64* to, DeviceArgs args, int64 n) { EACH(i, n) to[i] = args.value[i]; }
