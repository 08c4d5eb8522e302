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

bool addresses_are_valid(const Kernel *kernel, void **args) {
  for (size_t i = 0; i < kernel->count; ++i) {
    if (!kernel->pointers[i]) continue;
    uintptr_t at;
    std::memcpy(&at, args[i], sizeof at);
    const Allocation *found = at ? holding(at) : nullptr;
    if (!at || (found && (found->host || found->device == device))) continue;
    last_fault = std::string(kernel->name) + ": argument " + std::to_string(i) +
                 (found ? " lies on another device" : " is no address of a device");
    return false;
  }
  return true;
}

int run(const Kernel *kernel, const unsigned *sizes, unsigned shared, void **args) {
  if (!addresses_are_valid(kernel, args)) return ILLEGAL_ADDRESS;
  ++counters[LAUNCH];
  ++launches_by_name[kernel->name];
  DenormalMode mode;
  catch_signals();
  // volatile: it is set between sigsetjmp and siglongjmp
  volatile int status = OK;
  open_memory();
  if (sigsetjmp(launch_context, 1) == 0) {
    running = 1;
    if (kernel->run(sizes, args, shared)) {
      last_fault = std::string(kernel->name) + ": some threads of a block end while others wait at a barrier";
      status = LAUNCH_FAILURE;
    }
    running = 0;
  } else {
    set_access();  // the kernel resets the key's rights when it delivers a signal
    status = ILLEGAL_ADDRESS;
    last_fault = std::string(kernel->name) + ": " + last_fault;
  }
  if (status) forget_fibers();
  close_memory();
  restore_signals();
  return status;
}

}  // namespace
