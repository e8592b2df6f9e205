// NumPy arrays at the border to Python: checked on the way in, made on the way out.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <sstream>
#include <vector>

namespace py = pybind11;

namespace cqdino_d2::evaluation {

// Throws a ValueError that says all the parts, unless the condition holds.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw py::value_error(message.str());
}

using Sizes = std::vector<int64_t>;

// An array of T that lies in one piece, in C order; keeps it alive.
template <class T>
class In {
 public:
  In() = default;
  In(const py::array& array, const char* name, const Sizes& sizes) : array_(array) {
    const bool fits = py::isinstance<py::array_t<T>>(array) &&
                      (array.flags() & py::array::c_style) &&
                      std::equal(sizes.begin(), sizes.end(), array.shape(),
                                 array.shape() + array.ndim());
    if (!fits) refuse(name, sizes);
    data_ = static_cast<const T*>(array.data());
  }
  const T* data() const { return data_; }
  int64_t size() const { return data_ ? array_.size() : 0; }

 private:
  void refuse(const char* name, const Sizes& sizes) const {
    std::ostringstream wanted;
    for (const int64_t size : sizes) wanted << size << ", ";
    require(false, name, " must be a C-contiguous array of ",
            py::str(static_cast<py::object>(py::dtype::of<T>())).cast<std::string>(),
            " and shape (", wanted.str(), "), got ",
            py::str(static_cast<py::object>(array_.dtype())).cast<std::string>(), " ",
            py::str(array_.attr("shape")).cast<std::string>());
  }

  py::array array_;
  const T* data_ = nullptr;
};

// A new array, not filled. The memory is C++'s: NumPy asks the system for huge pages, which it may
// take a second to find for the curves of a large vocabulary.
template <class T>
class Out {
 public:
  explicit Out(const Sizes& sizes)
      : size_(std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>())),
        data_(new T[size_]),
        array_(sizes, data_, py::capsule(data_, [](void* data) { delete[] static_cast<T*>(data); })) {
  }
  T* data() { return data_; }
  const py::array_t<T>& array() const { return array_; }
  void fill(T value) { std::fill_n(data_, size_, value); }

 private:
  int64_t size_;
  T* data_;
  py::array_t<T> array_;
};

template <class T>
py::array_t<T> array_of(const std::vector<T>& values, const Sizes& sizes) {
  Out<T> out(sizes);
  std::copy(values.begin(), values.end(), out.data());
  return out.array();
}

}  // namespace cqdino_d2::evaluation
