// Threads of a block as fibers: barriers and warp shuffles switch to the next one.
#pragma once

extern "C" void hostcuda_switch(void **save, void *to);
asm(R"(
.text
.globl hostcuda_switch
hostcuda_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace {

enum State : unsigned char { NEW, READY, AT_WARP, AT_BLOCK, DONE };
const int MOST_THREADS = 1024;
const size_t STACK = 128 << 10;

void *stack_pointers[MOST_THREADS];  // of each fiber
int idle[MOST_THREADS], idle_count, fiber_count;
int fiber_of[MOST_THREADS];
State states[MOST_THREADS];
int current_thread;
void *scheduler;
void (*thread_body)(void *, int);
void *thread_args;
alignas(16) char shuffle_slots[MOST_THREADS][16];

void run_fiber() {
  for (;;) {
    thread_body(thread_args, current_thread);
    states[current_thread] = DONE;
    idle[idle_count++] = fiber_of[current_thread];
    hostcuda_switch(&stack_pointers[fiber_of[current_thread]], scheduler);
  }
}

int new_fiber() {
  static char *memory = (char *)mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  int fiber = fiber_count++;
  void **top = (void **)(memory + (fiber + 1) * STACK) - 1;
  *top = nullptr;  // no return address: at its entry, a function's stack lies 8 bytes off a multiple of 16
  *--top = (void *)run_fiber;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointers[fiber] = top;
  return fiber;
}

// After an error, threads are lost in the middle of a kernel; new fibers begin at the same stacks.
void forget_fibers() { fiber_count = idle_count = 0; }

void resume(int thread) {
  if (states[thread] == NEW) fiber_of[thread] = idle_count ? idle[--idle_count] : new_fiber();
  states[thread] = READY;
  current_thread = thread;
  hostcuda_switch(&scheduler, stack_pointers[fiber_of[thread]]);
}

unsigned next_random(unsigned below) {
  static unsigned state = 1;
  state = state * 1664525u + 1013904223u;
  return (state >> 8) % below;
}

// Numbers below `count` in the order of settings.order.
void fill_order(std::vector<int> &places, int count) {
  places.resize(count);
  std::iota(places.begin(), places.end(), 0);
  if (settings.order == REVERSE) std::reverse(places.begin(), places.end());
  if (settings.order == RANDOM)
    for (int i = count - 1; i > 0; --i) std::swap(places[i], places[next_random(i + 1)]);
}

}  // namespace

extern "C" {

// Called by kernels (include/hostcuda.h): wait for the threads of the block, or of the warp.
void hostcuda_wait(int of_warp) {
  states[current_thread] = of_warp ? AT_WARP : AT_BLOCK;
  hostcuda_switch(&stack_pointers[fiber_of[current_thread]], scheduler);
}
void *hostcuda_slot(int thread) { return shuffle_slots[thread]; }
int hostcuda_thread() { return current_thread; }

// Run all threads of a block as fibers. A barrier waits for those that have not ended; with `strict`, 1 where some have.
int hostcuda_block(int count, void (*body)(void *, int), void *args, int strict) {
  static std::vector<int> warps, lanes;
  thread_body = body;
  thread_args = args;
  std::fill(states, states + count, NEW);
  for (;;) {
    fill_order(warps, (count + 31) / 32);
    for (int warp : warps) {
      int first = warp * 32, size = std::min(32, count - first);
      for (bool again = true; again;) {
        fill_order(lanes, size);
        for (int lane : lanes)
          if (states[first + lane] <= READY) resume(first + lane);
        again = false;
        for (int t = first; t < first + size; ++t)
          if (states[t] == AT_WARP) states[t] = READY, again = true;
      }
    }
    int ended = std::count(states, states + count, DONE);
    if (ended == count) return 0;
    if (ended && strict) return 1;
    for (int t = 0; t < count; ++t)
      if (states[t] == AT_BLOCK) states[t] = READY;
  }
}

int hostcuda_order() { return settings.order; }
unsigned hostcuda_random(unsigned below) { return next_random(below); }

}  // extern "C"
