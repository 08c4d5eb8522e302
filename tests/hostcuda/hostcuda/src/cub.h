// CUB's device-wide algorithms, as far as cupy.cuda.cub calls them. Its functions are bound at run time: those of this
// library, loaded with global symbols, come before the ones that its extension module has. As on a GPU, a sum accumulates in
// the dtype of its input, in 256 interleaved parts that are then added as a tree; so float16 overflows beyond 65504.
#pragma once

struct CUstream_st;

namespace {

namespace cub {

typedef std::complex<float> complex64;
typedef std::complex<double> complex128;

template <class T>
bool is_nan(T v) {
  return v != v;
}
template <class T>
bool less(T a, T b) {
  return a < b;
}
template <class T>
bool less(std::complex<T> a, std::complex<T> b) {
  return a.real() < b.real() || (a.real() == b.real() && a.imag() < b.imag());
}

// NaN wins against any number, the first of two against the second, as in NumPy.
struct Sum {
  template <class T>
  T operator()(T a, T b) const {
    return T(a + b);
  }
};
struct Product {
  template <class T>
  T operator()(T a, T b) const {
    return T(a * b);
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return is_nan(a) || (!is_nan(b) && !less(b, a)) ? a : b;
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return is_nan(a) || (!is_nan(b) && !less(a, b)) ? a : b;
  }
};

const int LANES = 256;

template <class T, class Op>
T reduce(const T *x, long count, Op op) {
  T partial[LANES];
  long lanes = std::min<long>(count, LANES);
  std::copy(x, x + lanes, partial);
  for (long i = lanes; i < count; ++i) partial[i % LANES] = op(partial[i % LANES], x[i]);
  for (; lanes > 1; lanes = (lanes + 1) / 2)
    for (long i = 0; i < lanes / 2; ++i) partial[i] = op(partial[i], partial[(lanes + 1) / 2 + i]);
  return partial[0];
}

// Reduce each of `segments` rows of `size` items; of no items, the result is `empty`.
template <class T, class Op>
void reduce_rows(const T *x, T *y, long segments, long size, Op op, T empty) {
  for (long s = 0; s < segments; ++s) y[s] = size ? reduce(x + s * size, size, op) : empty;
}

// CUB writes a pair of index and value, of which CuPy reads the index.
template <class T, class Better>
void arg_reduce(const T *x, void *y, long count, Better better) {
  struct Pair {
    int key;
    T value;
  } best = {0, x[0]};
  for (long i = 1; i < count && !is_nan(best.value); ++i)
    if (is_nan(x[i]) || better(x[i], best.value)) best = {int(i), x[i]};
  *(Pair *)y = best;
}

template <class T, class Op>
void scan(const T *x, T *y, long count, Op op) {
  for (long i = 0; i < count; ++i) y[i] = i ? op(y[i - 1], x[i]) : x[i];
}

// The numbers of cupy/_core/include/cupy/type_dispatcher.cuh.
template <class F>
int dispatch(int dtype, F f) {
  switch (dtype) {
    case 0: return f(std::int8_t());
    case 1: return f(std::uint8_t());
    case 2: return f(std::int16_t());
    case 3: return f(std::uint16_t());
    case 4: return f(std::int32_t());
    case 5: return f(std::uint32_t());
    case 6: return f(std::int64_t());
    case 7: return f(std::uint64_t());
    case 8: return f(_Float16());
    case 9: return f(float());
    case 10: return f(double());
    case 11: return f(complex64());
    case 12: return f(complex128());
    case 13: return f(bool());
  }
  last_fault = "hostcuda: CUB has no dtype " + std::to_string(dtype);
  return NOT_SUPPORTED;
}

enum Operation { SUM, MIN, MAX, ARGMIN, ARGMAX, CUMSUM, CUMPROD, PROD };

// Check addresses as a kernel's, and run on a stream. CuPy looks for no error, which the next call raises.
template <class F>
void launch(const char *name, std::initializer_list<const void *> addresses, CUstream_st *stream, F work) {
  auto checked = [=, pointers = std::vector<const void *>(addresses)]() -> int {
    for (const void *pointer : pointers)
      if (!check_address(std::string(name) + ": an array", uintptr_t(pointer))) return ILLEGAL_ADDRESS;
    int status = OK;
    int fault = run_guarded(name, [&] {
      status = work();
      return 0;
    });
    return fault ? fault : status;
  };
  late_status = enqueue(intptr_t(stream), checked);
  late_fault = last_fault;
  last_fault.clear();
}

int not_an_operation(const char *name, int op) {
  last_fault = std::string(name) + ": CUB has no operation " + std::to_string(op);
  return NOT_SUPPORTED;
}

size_t workspace(size_t items) { return 512 + items / 256; }

}  // namespace cub
}  // namespace

// ------------------------------------------------------------------------------------------------ reductions

void cub_device_segmented_reduce(void *, size_t &, void *x, void *y, int segments, int size, CUstream_st *stream, int op,
                                 int dtype) {
  cub::launch("cub_device_segmented_reduce", {x, y}, stream, [=] {
    return cub::dispatch(dtype, [=](auto zero) {
      typedef decltype(zero) T;
      const T *in = (const T *)x;
      T *out = (T *)y;
      switch (op) {
        case cub::SUM: cub::reduce_rows(in, out, segments, size, cub::Sum(), T(0)); return int(OK);
        case cub::PROD: cub::reduce_rows(in, out, segments, size, cub::Product(), T(1)); return int(OK);
        case cub::MIN: cub::reduce_rows(in, out, segments, size, cub::Min(), T(0)); return int(OK);
        case cub::MAX: cub::reduce_rows(in, out, segments, size, cub::Max(), T(0)); return int(OK);
      }
      return cub::not_an_operation("cub_device_segmented_reduce", op);
    });
  });
}
size_t cub_device_segmented_reduce_get_workspace_size(void *, void *, int segments, int, CUstream_st *, int, int) {
  return cub::workspace(segments);
}

void cub_device_reduce(void *space, size_t &space_size, void *x, void *y, int count, CUstream_st *stream, int op,
                       int dtype) {
  if (op != cub::ARGMIN && op != cub::ARGMAX)
    return cub_device_segmented_reduce(space, space_size, x, y, 1, count, stream, op, dtype);
  cub::launch("cub_device_reduce", {x, y}, stream, [=] {
    return cub::dispatch(dtype, [=](auto zero) {
      typedef decltype(zero) T;
      if (op == cub::ARGMIN) cub::arg_reduce((const T *)x, y, count, [](T a, T b) { return cub::less(a, b); });
      if (op == cub::ARGMAX) cub::arg_reduce((const T *)x, y, count, [](T a, T b) { return cub::less(b, a); });
      return int(OK);
    });
  });
}
size_t cub_device_reduce_get_workspace_size(void *, void *, int count, CUstream_st *, int, int) {
  return cub::workspace(count);
}

// ------------------------------------------------------------------------------------------------ scans, histograms

void cub_device_scan(void *, size_t &, void *x, void *y, int count, CUstream_st *stream, int op, int dtype) {
  cub::launch("cub_device_scan", {x, y}, stream, [=] {
    return cub::dispatch(dtype, [=](auto zero) {
      typedef decltype(zero) T;
      if (op == cub::CUMSUM) cub::scan((const T *)x, (T *)y, count, cub::Sum());
      else if (op == cub::CUMPROD) cub::scan((const T *)x, (T *)y, count, cub::Product());
      else return cub::not_an_operation("cub_device_scan", op);
      return int(OK);
    });
  });
}
size_t cub_device_scan_get_workspace_size(void *, void *, int count, CUstream_st *, int, int) {
  return cub::workspace(count);
}

// `edges` is the number of edges: one more than there are bins. Edges of integers are float64.
void cub_device_histogram_range(void *, size_t &, void *x, void *y, int edges, void *bins, size_t count,
                                CUstream_st *stream, int dtype) {
  cub::launch("cub_device_histogram_range", {x, y, bins}, stream, [=] {
    return cub::dispatch(dtype, [=](auto zero) {
      typedef decltype(zero) T;
      if constexpr (std::is_same_v<T, cub::complex64> || std::is_same_v<T, cub::complex128>) {
        last_fault = "cub_device_histogram_range: no complex dtype";
        return int(NOT_SUPPORTED);
      } else {
        typedef std::conditional_t<std::is_integral_v<T>, double, T> Edge;
        const Edge *first = (const Edge *)bins, *last = first + edges;
        long long *counts = (long long *)y;
        std::fill(counts, counts + edges - 1, 0);
        for (size_t i = 0; i < count; ++i) {
          long bin = std::upper_bound(first, last, Edge(((const T *)x)[i])) - first - 1;
          if (bin >= 0 && bin < edges - 1) ++counts[bin];
        }
        return int(OK);
      }
    });
  });
}
size_t cub_device_histogram_range_get_workspace_size(void *, void *, int edges, void *, size_t, CUstream_st *, int) {
  return cub::workspace(edges);
}
void cub_device_histogram_even(void *, size_t &, void *x, void *y, int edges, int lower, int upper, size_t count,
                               CUstream_st *stream, int dtype) {
  cub::launch("cub_device_histogram_even", {x, y}, stream, [=] {
    return cub::dispatch(dtype, [=](auto zero) {
      typedef std::conditional_t<std::is_integral_v<decltype(zero)>, decltype(zero), int> T;
      long long *counts = (long long *)y;
      std::fill(counts, counts + edges - 1, 0);
      for (size_t i = 0; i < count; ++i) {
        long long value = ((const T *)x)[i];
        if (value >= lower && value < upper) ++counts[(value - lower) * (edges - 1) / (upper - lower)];
      }
      return int(OK);
    });
  });
}
size_t cub_device_histogram_even_get_workspace_size(void *, void *, int edges, int, int, size_t, CUstream_st *, int) {
  return cub::workspace(edges);
}
