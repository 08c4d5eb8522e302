// CUDA's status codes, and the Python errors that CuPy raises for them.
#pragma once

namespace {

enum Status {
  OK = 0,
  INVALID_VALUE = 1,
  NO_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  FILE_NOT_FOUND = 301,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_FAILURE = 719,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_IMPLICIT = 906,
};

PyObject *callbacks;  // the module callbacks.py, for what is easier in Python
PyObject *runtime_error, *driver_error;

// The cause of the status that is about to be raised, in words; replaces CUDA's generic text.
std::string last_fault;

void raise_status(int status) {
  if (PyErr_Occurred()) return;
  PyObject *error = PyObject_CallFunction(runtime_error, "i", status);
  if (!error) return;
  if (!last_fault.empty()) {
    PyObject *args = Py_BuildValue("(s)", last_fault.c_str());
    PyObject_SetAttrString(error, "args", args);
    Py_XDECREF(args);
    last_fault.clear();
  }
  PyErr_SetObject(runtime_error, error);
  Py_DECREF(error);
}

void raise_driver(int status, const char *text) {
  if (PyErr_Occurred()) return;
  PyObject *error = PyObject_CallMethod(callbacks, "driver_error", "is", status, text);
  if (!error) return;
  PyErr_SetObject(driver_error, error);
  Py_DECREF(error);
}

PyObject *none(int status = OK) {
  if (status || PyErr_Occurred()) {
    raise_status(status);
    return nullptr;
  }
  Py_RETURN_NONE;
}

}  // namespace
