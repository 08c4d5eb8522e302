// The functions of libcublas that xpdl calls by ctypes, in a library of their own; hostcuda/cublas.py does the work.
#include <Python.h>

#include <cstdarg>
#include <cstdint>
#include <initializer_list>

namespace {

enum { SUCCESS = 0, EXECUTION_FAILED = 13 };

// Call a function of the module with the GIL held. An exception with a status becomes that; any other is printed.
int call(const char *name, const char *format, ...) {
  PyGILState_STATE state = PyGILState_Ensure();
  va_list values;
  va_start(values, format);
  PyObject *args = Py_VaBuildValue(format, values);
  va_end(values);
  PyObject *module = PyImport_ImportModule("hostcuda.cublas");
  PyObject *function = module ? PyObject_GetAttrString(module, name) : nullptr;
  PyObject *result = function && args ? PyObject_CallObject(function, args) : nullptr;
  int status = SUCCESS;
  if (result) {
    status = PyLong_Check(result) ? int(PyLong_AsLong(result)) : int(SUCCESS);
  } else {
    PyErr_Print();
    status = EXECUTION_FAILED;
  }
  for (PyObject *object : {result, function, module, args}) Py_XDECREF(object);
  PyGILState_Release(state);
  return status;
}

}  // namespace

extern "C" {

typedef std::intptr_t Address;

int cublasCreate_v2(Address *handle) { return call("direct_create", "(n)", handle); }
int cublasSetMathMode(Address handle, int mode) { return call("direct_set_math_mode", "(ni)", handle, mode); }
int cublasSetStream_v2(Address handle, Address stream) { return call("direct_set_stream", "(nn)", handle, stream); }
int cublasSetWorkspace_v2(Address handle, Address workspace, std::size_t size) {
  return call("direct_set_workspace", "(nnn)", handle, workspace, size);
}
int cublasGemmStridedBatchedEx(Address handle, int opa, int opb, int m, int n, int k, Address alpha, Address a, int kind_a,
                               int lda, long long stride_a, Address b, int kind_b, int ldb, long long stride_b, Address beta,
                               Address c, int kind_c, int ldc, long long stride_c, int count, int compute, int algorithm) {
  return call("direct_gemm", "(niiiiinniiLniiLnniiLiii)", handle, opa, opb, m, n, k, alpha, a, kind_a, lda, stride_a, b,
              kind_b, ldb, stride_b, beta, c, kind_c, ldc, stride_c, count, compute, algorithm);
}
int cublasGemmEx(Address handle, int opa, int opb, int m, int n, int k, Address alpha, Address a, int kind_a, int lda,
                 Address b, int kind_b, int ldb, Address beta, Address c, int kind_c, int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(handle, opa, opb, m, n, k, alpha, a, kind_a, lda, 0, b, kind_b, ldb, 0, beta, c, kind_c,
                                    ldc, 0, 1, compute, algorithm);
}

}  // extern "C"
