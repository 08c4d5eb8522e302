// One kernel launch: its pointers are checked, its faults become a status.
#pragma once

namespace {

std::map<std::string, long> launches_by_name;

// Subnormals are zero inside, where settings.flush_denormals is on: FTZ and DAZ of MXCSR.
struct DenormalMode {
  unsigned before = _mm_getcsr();
  DenormalMode() {
    if (settings.flush_denormals) _mm_setcsr(before | 0x8040);
  }
  ~DenormalMode() { _mm_setcsr(before); }
};

// Whether a kernel on the current device may be given an address.
bool check_address(const std::string &name, uintptr_t at) {
  const Allocation *found = at ? holding(at) : nullptr;
  if (!at || (found && (found->host || found->device == device))) return true;
  last_fault = name + (found ? " lies on another device" : " is no address of a device");
  return false;
}

// Run the code of a kernel; `body` gives 1 when threads miss a barrier.
template <class F>
int run_guarded(const char *name, F body) {
  ++counters[LAUNCH];
  ++launches_by_name[name];
  DenormalMode mode;
  catch_signals();
  // volatile: it is set between sigsetjmp and siglongjmp
  volatile int status = OK;
  open_memory();
  if (sigsetjmp(launch_context, 1) == 0) {
    running = 1;
    if (body()) {
      last_fault = std::string(name) + ": some threads of a block end while others wait at a barrier";
      status = LAUNCH_FAILURE;
    }
    running = 0;
  } else {
    set_access();  // the operating system resets the key's rights when it delivers a signal
    status = ILLEGAL_ADDRESS;
    last_fault = std::string(name) + ": " + last_fault;
  }
  if (status) forget_fibers();
  close_memory();
  restore_signals();
  return status;
}

int run(const Kernel *kernel, const unsigned *sizes, unsigned shared, void **args) {
  for (size_t i = 0; i < kernel->count; ++i) {
    uintptr_t at = 0;
    if (kernel->pointers[i]) std::memcpy(&at, args[i], sizeof at);
    if (!check_address(std::string(kernel->name) + ": argument " + std::to_string(i), at)) return ILLEGAL_ADDRESS;
  }
  return run_guarded(kernel->name, [&] { return kernel->run(sizes, args, shared); });
}

}  // namespace
