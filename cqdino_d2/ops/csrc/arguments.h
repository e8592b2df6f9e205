// The operator's tensors: checked, contiguous, and as a Problem of plain pointers.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "problem.h"
#include "sampling.h"

namespace cqdino {

struct Arguments {
  at::Tensor value, shapes, starts, places, weights, references;
  Sizes sizes;
};

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Raises where sizes, types or devices do not belong together.
Arguments check_arguments(const at::Tensor& value, const at::Tensor& spatial_shapes,
                          const at::Tensor& level_start_index, const at::Tensor& places,
                          const at::Tensor& weights, const std::optional<at::Tensor>& references);

// The gradient of the output, contiguous. Raises where it is not like the output.
at::Tensor check_gradient(const at::Tensor& gradient, const Arguments& arguments);

template <class T, class F>
Problem<T, F> make_problem(const Arguments& arguments) {
  Problem<T, F> problem{};
  problem.sizes = arguments.sizes;
  problem.value = static_cast<const T*>(arguments.value.const_data_ptr());
  problem.shapes = arguments.shapes.const_data_ptr<int64_t>();
  problem.starts = arguments.starts.const_data_ptr<int64_t>();
  problem.weights = static_cast<const T*>(arguments.weights.const_data_ptr());
  if (arguments.references.defined()) {
    problem.references = static_cast<const F*>(arguments.references.const_data_ptr());
    problem.offsets = static_cast<const T*>(arguments.places.const_data_ptr());
  } else {
    problem.locations = static_cast<const F*>(arguments.places.const_data_ptr());
  }
  return problem;
}

template <class T, class F>
void set_gradients(Problem<T, F>& problem, const at::Tensor& grad_output,
                   const at::Tensor& grad_places, const at::Tensor& grad_weights) {
  problem.grad_output = static_cast<const T*>(grad_output.const_data_ptr());
  problem.grad_weights = static_cast<T*>(grad_weights.mutable_data_ptr());
  if (problem.references != nullptr) {
    problem.grad_offsets = static_cast<T*>(grad_places.mutable_data_ptr());
  } else {
    problem.grad_locations = static_cast<F*>(grad_places.mutable_data_ptr());
  }
}

template <class T_, class F_>
struct Types {
  using T = T_;
  using F = F_;
};

// Calls the function with the Types that belong to the type of the values.
template <class Function>
auto with_types(at::ScalarType type, Function&& function) {
  switch (type) {
    case at::kFloat:
      return function(Types<float, float>());
    case at::kDouble:
      return function(Types<double, double>());
    case at::kHalf:
      return function(Types<HalfBits, float>());
    default:  // check_arguments lets nothing else pass
      return function(Types<BFloat16Bits, float>());
  }
}

}  // namespace cqdino
