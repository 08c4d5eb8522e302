// The CUDA runtime and driver on the host, as far as CuPy calls them, with the signatures of their __pyx_capi__ tables.
// Every function is called with the GIL held.
#include <Python.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <chrono>
#include <complex>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../include/hostcuda_kernel.h"

using hostcuda::Kernel;
using std::size_t;
using std::uintptr_t;

// in this order: each uses those before it
#include "status.h"
#include "settings.h"
#include "memory.h"
#include "faults.h"
#include "fibers.h"
#include "launch.h"
#include "streams.h"
#include "runtime_api.h"
#include "driver_api.h"
#include "cub.h"

// Called by core.py.
extern "C" {

void hostcuda_setup(PyObject *module, PyObject *of_runtime, PyObject *of_driver, const long *values) {
  callbacks = module;
  runtime_error = of_runtime;
  driver_error = of_driver;
  for (PyObject *held : {callbacks, runtime_error, driver_error}) Py_INCREF(held);
  settings.devices = int(values[0]);
  settings.memory = size_t(values[1]);
  settings.guard = values[2];
  settings.order = int(values[3]);
  settings.async = values[4];
  settings.flush_denormals = values[5];
  settings.protect = int(values[6]);
  settings.trace = values[7];
  prepare_memory();
  prepare_streams();
}
void hostcuda_open() { open_memory(); }
void hostcuda_close() { close_memory(); }
int hostcuda_protected() { return protection; }
long hostcuda_counted(int counter) { return counters[counter]; }
void hostcuda_set_order(int order) { settings.order = order; }
int hostcuda_refuse_reads(int refuse) { return std::exchange(refuses_reads, bool(refuse)); }
const char *hostcuda_words(intptr_t function) { return ((const Kernel *)function)->words(); }
PyObject *hostcuda_launches() {
  PyObject *counts = PyDict_New();
  for (auto &[name, times] : launches_by_name) {
    PyObject *number = PyLong_FromLong(times);
    PyDict_SetItemString(counts, name.c_str(), number);
    Py_DECREF(number);
  }
  return counts;
}
PyObject *hostcuda_finish(intptr_t stream) { return none(synchronize(stream)); }
PyObject *hostcuda_enqueue(intptr_t stream, PyObject *call) { return enqueue_python(stream, call, PyTuple_New(0)); }

}  // extern "C"
