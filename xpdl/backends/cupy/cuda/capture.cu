// What differs from one repetition of a captured step to the next: it comes by value with a launch before each.

struct Slots {
  int64 value[64];
};

extern "C" __global__ void put(int64* to, Slots slots, int64 n) { EACH(i, n) to[i] = slots.value[i]; }
