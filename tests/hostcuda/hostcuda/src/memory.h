// Device memory: an arena for each device. With protection, the host cannot touch it outside of launches and copies.
#pragma once

namespace {

const size_t PAGE = 4096;

size_t rounded(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

struct Allocation {
  size_t size;
  int device;
  bool host;        // pinned host memory
  uintptr_t start;  // of the bytes taken from the arena, guard pages included
  size_t taken;
};
std::map<uintptr_t, Allocation> allocations;

// First-fit allocator over reserved address space.
struct Arena {
  uintptr_t start = 0;
  size_t used = 0;
  uintptr_t high_water = 0;
  std::map<uintptr_t, size_t> gaps;

  void reserve(size_t size) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) Py_FatalError("hostcuda: no address space for a device; HOSTCUDA_MEMORY is its size");
    start = high_water = uintptr_t(at);
    gaps[start] = size;
  }
  uintptr_t take(size_t size) {
    for (auto gap = gaps.begin(); gap != gaps.end(); ++gap) {
      if (gap->second < size) continue;
      uintptr_t at = gap->first;
      size_t rest = gap->second - size;
      gaps.erase(gap);
      if (rest) gaps[at + size] = rest;
      used += size;
      return at;
    }
    return 0;
  }
  void give(uintptr_t at, size_t size) {
    used -= size;
    auto next = gaps.lower_bound(at);
    if (next != gaps.end() && next->first == at + size) {
      size += next->second;
      next = gaps.erase(next);
    }
    if (next != gaps.begin()) {
      auto before = std::prev(next);
      if (before->first + before->second == at) {
        before->second += size;
        return;
      }
    }
    gaps[at] = size;
  }
};
std::vector<Arena> arenas;
thread_local int device = 0;  // the current one

// ------------------------------------------------------------------------------------------------ protection

// The memory protection key of device memory; -1 where the processor or the kernel has none. There mprotect is slow: it
// visits every page, twice a launch. Guard pages, whose access differs from page to page, exclude it.
int key = -1;
enum Protection { UNPROTECTED, BY_KEY, BY_MPROTECT } protection = UNPROTECTED;

thread_local int opened = 0;  // nesting depth: a destructor may free memory between two calls of Python

void set_access() {
  if (protection == BY_KEY) pkey_set(key, opened ? 0 : PKEY_DISABLE_ACCESS);
  if (protection == BY_MPROTECT)
    for (Arena &arena : arenas)
      if (arena.high_water > arena.start)
        mprotect((void *)arena.start, arena.high_water - arena.start, opened ? PROT_READ | PROT_WRITE : PROT_NONE);
}
void open_memory() {
  if (opened++ == 0) set_access();
}
void close_memory() {
  if (--opened == 0) set_access();
}
struct Open {
  Open() { open_memory(); }
  ~Open() { close_memory(); }
};

void prepare_memory() {
  arenas.resize(settings.devices);
  for (Arena &arena : arenas) arena.reserve(settings.memory * (settings.guard ? 8 : 2));
  key = settings.protect < 0 ? -1 : pkey_alloc(0, PKEY_DISABLE_ACCESS);
  protection = key >= 0 ? BY_KEY : settings.protect > 0 && !settings.guard ? BY_MPROTECT : UNPROTECTED;
  if (protection != BY_KEY) return;
  for (Arena &arena : arenas)
    pkey_mprotect((void *)arena.start, arena.gaps[arena.start], PROT_READ | PROT_WRITE, key);
}

void set_guard(uintptr_t at, size_t size, int access) {
  if (mprotect((void *)at, size, access)) Py_FatalError("hostcuda: more guard pages than vm.max_map_count allows");
}

// ------------------------------------------------------------------------------------------------ allocation

uintptr_t allocate(size_t size) {
  Arena &arena = arenas[device];
  size_t taken = rounded(std::max<size_t>(size, 1), settings.guard ? PAGE : 512);
  if (taken > settings.memory || (!settings.guard && arena.used + taken > settings.memory)) return 0;
  if (settings.guard) taken += 2 * PAGE;
  uintptr_t start = arena.take(taken), at = start;
  if (!start) return 0;
  Open open;
  arena.high_water = std::max(arena.high_water, rounded(start + taken, PAGE));
  if (settings.guard) {
    set_guard(start, PAGE, PROT_NONE);
    set_guard(start + taken - PAGE, PAGE, PROT_NONE);
    std::memset((void *)(start + PAGE), 0xFF, taken - 2 * PAGE);
    // Aligned to 16 bytes as vector loads need it; up to 15 bytes before the guard page are checked when it is freed.
    at = start + taken - PAGE - rounded(size, 16);
  } else {
    std::memset((void *)start, 0xFF, taken);
  }
  allocations[at] = {size, device, false, start, taken};
  return at;
}

int release(uintptr_t at) {
  if (!at) return OK;
  auto found = allocations.find(at);
  if (found == allocations.end()) return INVALID_VALUE;
  Allocation freed = found->second;
  int status = OK;
  if (settings.guard) {
    Open open;
    const unsigned char *bytes = (const unsigned char *)at;
    for (size_t i = freed.size; i < rounded(freed.size, 16); ++i)
      if (bytes[i] != 0xFF) {
        last_fault = "memory beyond the end of an array of " + std::to_string(freed.size) + " bytes was written";
        status = ILLEGAL_ADDRESS;
      }
    set_guard(freed.start, freed.taken, PROT_READ | PROT_WRITE);
  }
  if (freed.taken >= 16 * PAGE) {
    uintptr_t first = rounded(freed.start, PAGE), last = (freed.start + freed.taken) / PAGE * PAGE;
    madvise((void *)first, last - first, MADV_DONTNEED);
  }
  allocations.erase(found);
  arenas[freed.device].give(freed.start, freed.taken);
  return status;
}

// The allocation that an address lies in, or the one that ends at it.
const Allocation *holding(uintptr_t at) {
  auto next = allocations.upper_bound(at);
  if (next == allocations.begin()) return nullptr;
  --next;
  return at > next->first + std::max<size_t>(next->second.size, 1) ? nullptr : &next->second;
}
bool on_device(uintptr_t at) {
  const Allocation *found = holding(at);
  return found && !found->host;
}
bool is_pinned(uintptr_t at) {
  const Allocation *found = holding(at);
  return found && found->host;
}

}  // namespace
