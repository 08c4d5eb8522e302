// Settings from the environment (README.md), and the counters that tests read.
#pragma once

namespace {

enum Order { FORWARD, REVERSE, RANDOM };

struct Settings {
  int devices = 1;
  size_t memory = size_t(8) << 30;  // bytes of each device
  bool guard = false;               // each allocation ends at a guard page
  int order = FORWARD;              // of threads and blocks
  bool async = false;               // work on streams is queued until the host waits for it
  bool flush_denormals = false;     // kernels run with FTZ and DAZ set
  int protect = 0;                  // 1: by mprotect, where there are no memory protection keys; -1: not at all
  bool trace = false;               // each launch is printed
} settings;

enum Counter { LAUNCH, READ, WAIT };  // kernel launches, copies from device to host, synchronizations
long counters[3];

}  // namespace
