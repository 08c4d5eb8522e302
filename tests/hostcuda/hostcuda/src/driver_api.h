// The CUDA driver, as far as CuPy calls it: drv_NAME replaces NAME of cupy_backends.cuda.api.driver. Of NVRTC, whose functions are
// nvrtc.py's, CuPy's reductions by CUB call one as a C function.
#pragma once

extern "C" {

PyObject *nvrtc_getVersion(int) { return Py_BuildValue("(ii)", 12, 9); }

intptr_t drv_ctxGetCurrent(int) { return 1; }
int drv_ctxGetDevice(int) { return device; }
intptr_t drv_streamGetCtx(intptr_t, int) { return 1; }
PyObject *drv_ctxSetCurrent(intptr_t, int) { return none(); }

// ------------------------------------------------------------------------------------------------ modules

// Loaded once for each call, with globals of its own; never unloaded.
intptr_t drv_moduleLoadData(PyObject *image, int) {
  PyObject *path = PyObject_CallMethod(callbacks, "image_file", "O", image);
  if (!path) return 0;
  void *module = dlopen(PyUnicode_AsUTF8(path), RTLD_NOW | RTLD_LOCAL);
  Py_DECREF(path);
  if (!module) raise_driver(INVALID_IMAGE, dlerror());
  return intptr_t(module);
}
intptr_t drv_moduleLoad(PyObject *file, int) {
  void *module = dlopen(PyUnicode_AsUTF8(file), RTLD_NOW | RTLD_LOCAL);
  if (!module) raise_driver(FILE_NOT_FOUND, dlerror());
  return intptr_t(module);
}
PyObject *drv_moduleUnload(intptr_t, int) { return none(); }

static intptr_t symbol(intptr_t module, const std::string &name) {
  void *found = dlsym((void *)module, name.c_str());
  if (!found) raise_driver(NOT_FOUND, "CUDA_ERROR_NOT_FOUND: named symbol not found");
  return intptr_t(found);
}
intptr_t drv_moduleGetFunction(intptr_t module, PyObject *name, int) {
  return symbol(module, std::string("hostcuda_kernel_") + PyUnicode_AsUTF8(name));
}
intptr_t drv_moduleGetGlobal(intptr_t module, PyObject *name, int) { return symbol(module, PyUnicode_AsUTF8(name)); }

// ------------------------------------------------------------------------------------------------ launches

struct LaunchSize {
  unsigned sizes[6];  // grid, block
  unsigned shared;

  bool is_valid() const {
    const unsigned most[6] = {0x7fffffff, 65535, 65535, 1024, 1024, 64};
    for (int i = 0; i < 6; ++i)
      if (!sizes[i] || sizes[i] > most[i]) return false;
    return sizes[3] * sizes[4] * sizes[5] <= 1024 && shared <= (48 << 10);
  }
};

static void print_launch(const Kernel *kernel, const LaunchSize &size, void **args, intptr_t stream) {
  const unsigned *s = size.sizes;
  fprintf(stderr, "%s%s<%u,%u,%u x %u,%u,%u>", records(stream) ? "recorded " : "", kernel->name, s[0], s[1], s[2], s[3],
          s[4], s[5]);
  for (size_t i = 0; i < kernel->count; ++i)
    if (kernel->pointers[i]) fprintf(stderr, " %p", *(void **)args[i]);
  fprintf(stderr, " on %#lx\n", long(stream));
}

// The launch with copies of its arguments, to run later.
static Work deferred(const Kernel *kernel, const LaunchSize &size, void **args) {
  std::vector<std::vector<char>> copies;
  for (size_t i = 0; i < kernel->count; ++i) copies.emplace_back((char *)args[i], (char *)args[i] + kernel->sizes[i]);
  return [=]() mutable {
    std::vector<void *> pointers;
    for (auto &bytes : copies) pointers.push_back(bytes.data());
    return run(kernel, size.sizes, size.shared, pointers.data());
  };
}

static int launch(const Kernel *kernel, const LaunchSize &size, void **args, intptr_t stream) {
  if (!find(stream)) return INVALID_HANDLE;
  if (find(stream)->recorded || settings.async) return enqueue(stream, deferred(kernel, size, args));
  int status = take_late_status();
  return status ? status : run(kernel, size.sizes, size.shared, args);
}

PyObject *drv_launchKernel(intptr_t function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                           unsigned shared, intptr_t stream, intptr_t params, intptr_t, int) {
  const Kernel *kernel = (const Kernel *)function;
  LaunchSize size = {{gx, gy, gz, bx, by, bz}, shared};
  if (!size.is_valid()) {
    raise_driver(INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE: invalid argument");
    return nullptr;
  }
  void **args = (void **)params;
  if (settings.trace) print_launch(kernel, size, args, stream);
  if (int status = launch(kernel, size, args, stream)) {
    std::string text = last_fault.empty() ? "a launch failed" : last_fault;
    last_fault.clear();
    raise_driver(status, text.c_str());
    return nullptr;
  }
  return none();
}
PyObject *drv_launchCooperativeKernel(intptr_t function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                      unsigned bz, unsigned shared, intptr_t stream, intptr_t params, int skip) {
  if (gx * gy * gz != 1) {
    raise_driver(NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED: hostcuda has no barrier of a whole grid");
    return nullptr;
  }
  return drv_launchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, params, 0, skip);
}
int drv_funcGetAttribute(int attribute, intptr_t, int) { return attribute == 0 ? 1024 : 0; }
PyObject *drv_funcSetAttribute(intptr_t, int, int, int) { return none(); }
int drv_occupancyMaxActiveBlocksPerMultiprocessor(intptr_t, int, size_t, int) { return 1; }
PyObject *drv_occupancyMaxPotentialBlockSize(intptr_t, size_t, int, int) { return Py_BuildValue("(ii)", 108, 256); }

}  // extern "C"
