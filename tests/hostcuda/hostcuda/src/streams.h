// Streams, events and graph capture. Work runs when it is enqueued or, with settings.async, as late as CUDA's rules allow:
// when the host waits for it, or for work that is ordered after it.
#pragma once

namespace {

typedef std::function<int()> Work;  // gives a status
typedef std::vector<Work> Graph;

struct Task {
  Work work;
  int device;
  std::vector<std::shared_ptr<Task>> after;
  bool done = false;
  double finished_at = 0;  // in milliseconds
};
typedef std::shared_ptr<Task> TaskPtr;

struct Stream {
  unsigned flags = 0;
  int priority = 0;
  int device = 0;
  TaskPtr last;                     // the youngest task
  std::unique_ptr<Graph> recorded;  // while it is captured
  bool invalid = false;             // the capture has failed

  bool is_blocking() const { return !(flags & 1); }
};

const intptr_t LEGACY = 1, PER_THREAD = 2;

// Never destroyed: at the end of the process, pending tasks may hold objects of a Python that is gone.
std::map<intptr_t, std::unique_ptr<Stream>> &streams = *new std::map<intptr_t, std::unique_ptr<Stream>>;
std::vector<Stream> &default_streams = *new std::vector<Stream>;     // one for each device
std::vector<Stream> &per_thread_streams = *new std::vector<Stream>;  // there is only one thread
int capturing = 0;                                                   // streams under capture
bool refuses_reads = false;

std::thread::id main_thread;  // works on streams; others may ask how far it is

void prepare_streams() {
  main_thread = std::this_thread::get_id();
  default_streams.resize(settings.devices);
  per_thread_streams.resize(settings.devices);
  for (int i = 0; i < settings.devices; ++i) default_streams[i].device = per_thread_streams[i].device = i;
}

// nullptr for a handle that is none.
Stream *find(intptr_t handle) {
  if (handle == 0 || handle == LEGACY) return &default_streams[device];
  if (handle == PER_THREAD) return &per_thread_streams[device];
  auto found = streams.find(handle);
  return found == streams.end() ? nullptr : found->second.get();
}
bool is_default(const Stream *stream) { return stream == &default_streams[stream->device]; }

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int run_on(int which, const Work &work) {
  int before = device;
  device = which;
  int status = work();
  device = before;
  return status;
}

// Run a task and all that it is ordered after. Without recursion: queues get long.
int finish(const TaskPtr &wanted) {
  if (!wanted) return OK;
  std::vector<TaskPtr> pending = {wanted};
  while (!pending.empty()) {
    TaskPtr task = pending.back();
    TaskPtr before;
    for (auto &other : task->after)
      if (!other->done) before = other;
    if (!task->done && before) {
      pending.push_back(before);
      continue;
    }
    pending.pop_back();
    if (task->done) continue;
    task->done = true;
    task->after.clear();
    int status = task->work ? run_on(task->device, task->work) : int(OK);
    task->work = nullptr;
    task->finished_at = now();
    if (status) return status;
  }
  return OK;
}

// A new task at the end of a stream. The default stream and the blocking streams of its device wait for each other.
TaskPtr append(Stream *stream, Work work) {
  auto task = std::make_shared<Task>();
  task->work = std::move(work);
  task->device = stream->device;
  auto follow = [&](const Stream &other) {
    if (other.last && !other.last->done) task->after.push_back(other.last);
  };
  follow(*stream);
  if (is_default(stream)) {
    for (auto &[_, other] : streams)
      if (other->is_blocking() && other->device == stream->device) follow(*other);
    follow(per_thread_streams[stream->device]);
  } else if (stream->is_blocking()) {
    follow(default_streams[stream->device]);
  }
  stream->last = task;
  return task;
}

// The error of a call that could not raise it; raised by the next, as CUDA does with errors of work that is running.
int late_status = OK;
std::string late_fault;

int take_late_status() {
  int status = late_status;
  if (status) last_fault = late_fault;
  late_status = OK;
  return status;
}

// Run work now, queue it, or record it in the graph of a stream under capture.
int enqueue(intptr_t handle, Work work) {
  if (int status = take_late_status()) return status;
  Stream *stream = find(handle);
  if (!stream) return INVALID_HANDLE;
  if (stream->recorded) {
    stream->recorded->push_back(std::move(work));
    return OK;
  }
  if (!settings.async) return run_on(stream->device, work);
  append(stream, std::move(work));
  return OK;
}

int synchronize(intptr_t handle) {
  if (int status = take_late_status()) return status;
  Stream *stream = find(handle);
  if (!stream) return INVALID_HANDLE;
  // the default stream's barrier includes the blocking streams
  return finish(is_default(stream) && settings.async ? append(stream, nullptr) : stream->last);
}

int synchronize_device() {
  if (int status = take_late_status()) return status;
  for (auto &[_, stream] : streams)
    if (stream->device == device)
      if (int status = finish(stream->last)) return status;
  if (int status = finish(per_thread_streams[device].last)) return status;
  return finish(default_streams[device].last);
}

bool records(intptr_t handle) {
  Stream *stream = find(handle);
  return stream && stream->recorded;
}
int refuse(intptr_t handle) {
  find(handle)->invalid = true;
  return CAPTURE_UNSUPPORTED;
}
// Synchronous calls go by way of the default stream, which a relaxed capture of any stream forbids.
bool captures_any() { return capturing > 0; }

// ------------------------------------------------------------------------------------------------ copies

int check_read(uintptr_t to, uintptr_t from) {
  if (!on_device(from) || on_device(to)) return OK;
  ++counters[READ];
  if (!refuses_reads) return OK;
  last_fault = "a value was read on the host: a GPU would be waited for";
  return CAPTURE_UNSUPPORTED;
}

int copy(uintptr_t to, uintptr_t from, size_t size) {
  Open open;
  std::memmove((void *)to, (void *)from, size);
  return OK;
}

// cudaMemcpyAsync: only what goes by pinned memory or stays on devices is asynchronous.
int copy_async(uintptr_t to, uintptr_t from, size_t size, intptr_t handle) {
  if (records(handle))
    return enqueue(handle, [=] {
      int status = check_read(to, from);
      return status ? status : copy(to, from, size);
    });
  if (int status = check_read(to, from)) return status;
  bool staged = on_device(to) && !on_device(from) && !is_pinned(from);
  if (staged && settings.async) {
    auto bytes = std::make_shared<std::vector<char>>((char *)from, (char *)from + size);
    return enqueue(handle, [=] { return copy(to, uintptr_t(bytes->data()), size); });
  }
  if (int status = enqueue(handle, [=] { return copy(to, from, size); })) return status;
  bool waits = on_device(from) && !on_device(to) && !is_pinned(to);
  return waits ? synchronize(handle) : int(OK);
}

struct Event {
  TaskPtr task;
  const Graph *captured_by = nullptr;  // the graph that it was recorded in
  double recorded_at = 0;
};

}  // namespace
