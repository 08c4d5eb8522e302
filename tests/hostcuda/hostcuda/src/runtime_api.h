// The CUDA runtime, as far as CuPy calls it: rt_NAME replaces NAME of cupy_backends.cuda.api.runtime. The last `int` of a
// signature is Cython's; signatures.txt has them all.
#pragma once

extern "C" {

int rt_driverGetVersion(int) { return 12090; }
int rt_runtimeGetVersion(int) { return 12090; }
int rt__getCUDAMajorVersion(int) { return 12; }

// ------------------------------------------------------------------------------------------------ devices

int rt_getDevice(int) { return device; }
int rt_getDeviceCount(int) { return settings.devices; }
PyObject *rt_setDevice(int which, int) {
  if (which < 0 || which >= settings.devices) return none(INVALID_DEVICE);
  device = which;
  return none();
}
int rt_deviceGetAttribute(int attribute, int which, int) {
  PyObject *found = PyObject_CallMethod(callbacks, "device_attribute", "ii", attribute, which);
  if (!found) return -1;
  int value = int(PyLong_AsLong(found));
  Py_DECREF(found);
  return value;
}
PyObject *rt_getDeviceProperties(int which, int) {
  if (which < 0 || which >= settings.devices) return none(INVALID_DEVICE);
  return PyObject_CallMethod(callbacks, "device_properties", "i", which);
}
int rt_deviceGetByPCIBusId(PyObject *, int) { return 0; }
PyObject *rt_deviceGetPCIBusId(int which, int) { return PyUnicode_FromFormat("0000:%02X:00.0", which + 1); }
PyObject *rt_deviceSynchronize(int) {
  if (captures_any()) return none(CAPTURE_UNSUPPORTED);
  ++counters[WAIT];
  return none(synchronize_device());
}
int rt_deviceCanAccessPeer(int, int, int) { return 0; }
size_t rt_deviceGetLimit(int, int) { return 0; }
PyObject *rt_deviceSetLimit(int, size_t, int) { return none(); }
PyObject *rt__ensure_context(void) { return none(); }
PyObject *rt_profilerStart(int) { return none(); }
PyObject *rt_profilerStop(int) { return none(); }

// ------------------------------------------------------------------------------------------------ memory

intptr_t rt_malloc(size_t size, int) {
  uintptr_t at = allocate(size);
  if (!at) raise_status(NO_MEMORY);
  return intptr_t(at);
}
intptr_t rt_mallocManaged(size_t size, int skip, void *) { return rt_malloc(size, skip); }
intptr_t rt_mallocAsync(size_t size, intptr_t, int skip) { return rt_malloc(size, skip); }
PyObject *rt_free(intptr_t at, int) {
  // cudaFree waits for the device
  if (int status = synchronize_device()) return none(status);
  return none(release(uintptr_t(at)));
}
PyObject *rt_freeAsync(intptr_t at, intptr_t stream, int) {
  return none(enqueue(stream, [=] { return release(uintptr_t(at)); }));
}
intptr_t rt_hostAlloc(size_t size, unsigned, int) {
  void *at = std::aligned_alloc(512, rounded(std::max<size_t>(size, 1), 512));
  if (!at) {
    raise_status(NO_MEMORY);
    return 0;
  }
  std::memset(at, 0xFF, size);
  allocations[uintptr_t(at)] = {size, 0, true, 0, 0};
  return intptr_t(at);
}
PyObject *rt_freeHost(intptr_t at, int) {
  if (int status = synchronize_device()) return none(status);
  if (!allocations.erase(uintptr_t(at))) return none(INVALID_VALUE);
  std::free((void *)at);
  return none();
}
PyObject *rt_memGetInfo(int) {
  size_t used = std::min(arenas[device].used, settings.memory);
  return Py_BuildValue("(nn)", Py_ssize_t(settings.memory - used), Py_ssize_t(settings.memory));
}
PyObject *rt_memcpy(intptr_t to, intptr_t from, size_t size, int, int) {
  if (captures_any()) return none(CAPTURE_UNSUPPORTED);
  int status = check_read(to, from);
  if (!status) status = synchronize(0);
  return none(status ? status : copy(to, from, size));
}
PyObject *rt_memcpyAsync(intptr_t to, intptr_t from, size_t size, int, intptr_t stream, int) {
  return none(copy_async(to, from, size, stream));
}
PyObject *rt_memcpyPeer(intptr_t to, int, intptr_t from, int, size_t size, int) {
  int status = synchronize(0);
  return none(status ? status : copy(to, from, size));
}
PyObject *rt_memcpyPeerAsync(intptr_t to, int, intptr_t from, int, size_t size, intptr_t stream, int) {
  return none(copy_async(to, from, size, stream));
}
PyObject *rt_memsetAsync(intptr_t at, int value, size_t size, intptr_t stream, int) {
  return none(enqueue(stream, [=] {
    Open open;
    std::memset((void *)at, value, size);
    return int(OK);
  }));
}
PyObject *rt_memset(intptr_t at, int value, size_t size, int skip) { return rt_memsetAsync(at, value, size, 0, skip); }
int rt_pointerGetMemoryType(intptr_t at, int) {
  const Allocation *found = holding(uintptr_t(at));
  return !found ? 0 : found->host ? 1 : 2;
}
PyObject *rt_pointerGetAttributes(intptr_t at, int skip) {
  const Allocation *found = holding(uintptr_t(at));
  Py_ssize_t address = at, none = 0;
  return PyObject_CallMethod(callbacks, "pointer_attributes", "inni", found ? found->device : -2,
                             found ? address : none, on_device(at) ? none : address, rt_pointerGetMemoryType(at, skip));
}

// ------------------------------------------------------------------------------------------------ streams

intptr_t rt_streamCreateWithPriority(unsigned flags, int priority, int) {
  static intptr_t next = 0x1000;
  next += 16;
  streams[next].reset(new Stream{flags, priority, device});
  return next;
}
intptr_t rt_streamCreateWithFlags(unsigned flags, int) { return rt_streamCreateWithPriority(flags, 0, 0); }
intptr_t rt_streamCreate(int) { return rt_streamCreateWithPriority(0, 0, 0); }
PyObject *rt_streamDestroy(intptr_t handle, int) {
  auto found = streams.find(handle);
  if (found == streams.end()) return none(INVALID_HANDLE);
  if (found->second->recorded) --capturing;
  int status = finish(found->second->last);
  streams.erase(found);
  return none(status);
}
unsigned rt_streamGetFlags(intptr_t handle, int) { return find(handle) ? find(handle)->flags : 0; }
int rt_streamGetPriority(intptr_t handle, int) { return find(handle) ? find(handle)->priority : 0; }
PyObject *rt_streamSynchronize(intptr_t handle, int) {
  if (records(handle)) return none(refuse(handle));
  ++counters[WAIT];
  return none(synchronize(handle));
}

// The first question finds pending work not ready, and runs it: a loop that polls ends. Other threads only ask.
static int query(const TaskPtr &task) {
  if (!task || task->done) return OK;
  if (std::this_thread::get_id() != main_thread) return NOT_READY;
  int status = finish(task);
  return status ? status : int(NOT_READY);
}
PyObject *rt_streamQuery(intptr_t handle, int) {
  if (!find(handle)) return none(INVALID_HANDLE);
  return PyLong_FromLong(records(handle) ? refuse(handle) : query(find(handle)->last));
}
PyObject *rt_streamWaitEvent(intptr_t handle, intptr_t event, int, void *) {
  Stream *stream = find(handle);
  if (!stream) return none(INVALID_HANDLE);
  TaskPtr task = ((Event *)event)->task;
  const Graph *captured_by = ((Event *)event)->captured_by;
  if (captured_by && captured_by != stream->recorded.get()) {
    last_fault = "hostcuda captures no fork to a second stream";
    return none(NOT_SUPPORTED);
  }
  if (!stream->recorded && task && !task->done) append(stream, nullptr)->after.push_back(task);
  return none();
}
static int call_python(PyObject *call, PyObject *args) {
  PyObject *result = PyObject_CallObject(call, args);
  if (!result) return LAUNCH_FAILURE;
  Py_DECREF(result);
  return OK;
}
static PyObject *enqueue_python(intptr_t handle, PyObject *call, PyObject *args) {
  Py_INCREF(call);
  auto release = [](PyObject *o) { Py_DECREF(o); };
  std::shared_ptr<PyObject> function(call, release), values(args, release);
  return none(enqueue(handle, [=] { return call_python(function.get(), values.get()); }));
}
PyObject *rt_launchHostFunc(intptr_t handle, PyObject *call, intptr_t arg, int) {
  if (records(handle)) return none(refuse(handle));
  return enqueue_python(handle, call, Py_BuildValue("(n)", Py_ssize_t(arg)));
}
PyObject *rt_streamAddCallback(intptr_t handle, PyObject *call, intptr_t arg, int, void *) {
  if (records(handle)) return none(refuse(handle));
  return enqueue_python(handle, call, Py_BuildValue("(nin)", Py_ssize_t(handle), 0, Py_ssize_t(arg)));
}

// ------------------------------------------------------------------------------------------------ graphs

PyObject *rt_streamBeginCapture(intptr_t handle, int, void *) {
  Stream *stream = find(handle);
  if (!stream || is_default(stream) || stream->recorded) return none(CAPTURE_UNSUPPORTED);
  stream->recorded.reset(new Graph);
  stream->invalid = false;
  ++capturing;
  return none();
}
intptr_t rt_streamEndCapture(intptr_t handle, int) {
  Stream *stream = find(handle);
  if (!stream || !stream->recorded) {
    raise_status(INVALID_VALUE);
    return 0;
  }
  --capturing;
  std::unique_ptr<Graph> graph = std::move(stream->recorded);
  if (stream->invalid) {
    raise_status(CAPTURE_INVALIDATED);
    return 0;
  }
  return intptr_t(graph.release());
}
int rt_streamIsCapturing(intptr_t handle, int) {
  // Nothing may be asked of the default stream while a stream that waits for it is captured.
  if ((handle == 0 || handle == LEGACY) && captures_any())
    for (auto &[_, stream] : streams)
      if (stream->recorded && stream->is_blocking()) {
        raise_status(CAPTURE_IMPLICIT);
        return 0;
      }
  return records(handle);
}
// An executable graph is shared with its pending launches.
typedef std::shared_ptr<const Graph> Executable;
intptr_t rt_graphInstantiate(intptr_t graph, int) {
  return intptr_t(new Executable(std::make_shared<const Graph>(*(Graph *)graph)));
}
PyObject *rt_graphLaunch(intptr_t executable, intptr_t handle, int) {
  return none(enqueue(handle, [graph = *(Executable *)executable] {
    for (auto &work : *graph)
      if (int status = work()) return status;
    return int(OK);
  }));
}
PyObject *rt_graphUpload(intptr_t, intptr_t, int) { return none(); }
PyObject *rt_graphDestroy(intptr_t graph, int) {
  delete (Graph *)graph;
  return none();
}
PyObject *rt_graphExecDestroy(intptr_t executable, int) {
  delete (Executable *)executable;
  return none();
}

// ------------------------------------------------------------------------------------------------ events

intptr_t rt_eventCreateWithFlags(unsigned, int) { return intptr_t(new Event); }
intptr_t rt_eventCreate(int) { return intptr_t(new Event); }
PyObject *rt_eventDestroy(intptr_t event, int) {
  delete (Event *)event;
  return none();
}
PyObject *rt_eventRecord(intptr_t handle, intptr_t stream_handle, int) {
  Stream *stream = find(stream_handle);
  if (!stream) return none(INVALID_HANDLE);
  Event *event = (Event *)handle;
  event->task = nullptr;
  event->captured_by = stream->recorded.get();
  event->recorded_at = now();
  if (settings.async && !stream->recorded) event->task = append(stream, nullptr);
  return none();
}
PyObject *rt_eventQuery(intptr_t event, int) { return PyLong_FromLong(query(((Event *)event)->task)); }
PyObject *rt_eventSynchronize(intptr_t event, int) {
  ++counters[WAIT];
  return none(finish(((Event *)event)->task));
}
float rt_eventElapsedTime(intptr_t start, intptr_t end, int) {
  double times[2];
  int i = 0;
  for (Event *event : {(Event *)start, (Event *)end}) {
    if (event->task && !event->task->done) {
      raise_status(NOT_READY);
      return 0;
    }
    times[i++] = event->task ? event->task->finished_at : event->recorded_at;
  }
  return std::max(1e-4f, float(times[1] - times[0]));
}

}  // extern "C"
