// What the kernels need of CUDA, for the host's compiler: blocks one after the other, the threads of a block too, or, where
// they wait for each other, as fibers that take turns from barrier to barrier.
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#define XPDL_HOST
#define __device__
#define __global__
#define __shared__ static

using std::cos;
using std::erfc;
using std::exp;
using std::expm1;
using std::log;
using std::log1p;
using std::sin;
using std::sqrt;
using std::tanh;

struct dim3 {
  unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

inline unsigned short half_bits(float v) {
  _Float16 h = v;
  unsigned short bits;
  std::memcpy(&bits, &h, 2);
  return bits;
}
inline float half_value(unsigned short bits) {
  _Float16 h;
  std::memcpy(&h, &bits, 2);
  return h;
}
inline unsigned float_bits(float v) {
  unsigned bits;
  std::memcpy(&bits, &v, 4);
  return bits;
}
inline float bits_float(unsigned bits) {
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

namespace fibers {
constexpr int MOST = 1024, STACK = 1 << 16;
static char stacks[MOST][STACK];
static ucontext_t main_context, contexts[MOST];
static bool finished[MOST];
static int current;
static void (*body)(void*);
static void* argument;

static void run() {
  body(argument);
  finished[current] = true;
  swapcontext(&contexts[current], &main_context);
}

static void place(int thread) {
  current = thread;
  threadIdx = {thread % blockDim.x, thread / blockDim.x, 0};
}

// false when some threads of the block end while others wait at a barrier
static bool block(int count) {
  for (int t = 0; t < count; ++t) {
    getcontext(&contexts[t]);
    contexts[t].uc_stack.ss_sp = stacks[t];
    contexts[t].uc_stack.ss_size = STACK;
    contexts[t].uc_link = nullptr;
    makecontext(&contexts[t], run, 0);
    finished[t] = false;
  }
  for (;;) {
    int ended = 0;
    for (int t = 0; t < count; ++t) {
      place(t);
      swapcontext(&main_context, &contexts[t]);
      ended += finished[t];
    }
    if (ended == count) return true;
    if (ended) return false;
  }
}
}  // namespace fibers

inline void __syncthreads() { swapcontext(&fibers::contexts[fibers::current], &fibers::main_context); }

// the types of a kernel's parameters, in words: what its launch is checked against
template <class X>
struct Word {
  static std::string of() { return "struct" + std::to_string(sizeof(X)); }
};
#define WORD(type, word) \
  template <>            \
  struct Word<type> {    \
    static std::string of() { return word; } \
  };
WORD(long long, "int64")
WORD(double, "float64")
WORD(float, "float32")
WORD(bool, "bool")
WORD(unsigned char, "uint8")
template <class X>
struct Word<const X> : Word<X> {};
template <class X>
struct Word<X*> {
  static std::string of() { return "*" + Word<X>::of(); }
};

template <class... X>
std::string words(void (*)(X...)) {
  std::string all;
  ((all += Word<X>::of() + " "), ...);
  return all;
}

template <class... X, std::size_t... K>
void call(void (*kernel)(X...), void** args, std::index_sequence<K...>) {
  kernel(*static_cast<std::remove_reference_t<X>*>(args[K])...);
}

template <class... X>
bool over_grid(void (*kernel)(X...), const unsigned* sizes, void** args, bool together) {
  gridDim = {sizes[0], sizes[1], sizes[2]};
  blockDim = {sizes[3], sizes[4], sizes[5]};
  int threads = blockDim.x * blockDim.y * blockDim.z;
  auto one = [&] { call(kernel, args, std::index_sequence_for<X...>{}); };
  fibers::body = [](void* f) { (*static_cast<decltype(one)*>(f))(); };
  fibers::argument = &one;
  for (unsigned z = 0; z < gridDim.z; ++z)
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = {x, y, z};
        if (together) {
          if (!fibers::block(threads)) return false;
          continue;
        }
        for (int t = 0; t < threads; ++t) {
          fibers::place(t);
          one();
        }
      }
  return true;
}

#define EXPORT(instance, name)                                                                            \
  extern "C" const char* words_##instance##_##name() {                                                    \
    static std::string all = words(instance::name);                                                       \
    return all.c_str();                                                                                   \
  }                                                                                                       \
  extern "C" bool launch_##instance##_##name(const unsigned* sizes, void** args, bool together) {         \
    return over_grid(instance::name, sizes, args, together);                                              \
  }
