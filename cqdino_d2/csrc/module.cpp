// The Python side of the operators: an empty module, so that importing it runs the operator
// registrations (TORCH_LIBRARY_FRAGMENT) of all its parts. Its docstring is looked up in the
// binary before that, see extension.py.
#include <Python.h>

extern "C" PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", CQDINO_BUILD_TAG, -1};
  return PyModule_Create(&definition);
}
