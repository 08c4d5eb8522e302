// Signals while a kernel runs: a wild address or an integer division by zero becomes an error of the launch.
#pragma once

namespace {

sigjmp_buf launch_context;
volatile sig_atomic_t running = 0;
struct sigaction previous_actions[3];
const int SIGNALS[3] = {SIGSEGV, SIGBUS, SIGFPE};

void restore_signals() {
  for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &previous_actions[i], nullptr);
}

void on_fault(int number, siginfo_t *info, void *) {
  if (!running) {
    restore_signals();
    return;  // the instruction faults again, for the previous handler
  }
  running = 0;
  uintptr_t at = uintptr_t(info->si_addr);
  char text[160];
  if (number == SIGFPE) {
    snprintf(text, sizeof text, "an integer was divided by zero");
  } else {
    // relative to the array that begins before it, as far as its guard pages reach
    auto next = allocations.upper_bound(at);
    bool found = next != allocations.begin() && (--next, at < next->first + next->second.size + 2 * PAGE);
    if (found)
      snprintf(text, sizeof text, "address %#lx is %ld bytes from the start of an array of %ld", long(at),
               long(at - next->first), long(next->second.size));
    else
      snprintf(text, sizeof text, "address %#lx is in no array", long(at));
  }
  last_fault = text;
  siglongjmp(launch_context, 1);
}

void catch_signals() {
  static char *stack = nullptr;
  if (!stack) {
    stack = (char *)std::malloc(1 << 16);
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = 1 << 16;
    sigaltstack(&alternate, nullptr);
  }
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &action, &previous_actions[i]);
}

}  // namespace
