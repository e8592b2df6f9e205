// The operators on CUDA: memory, stream and errors. Compiled by the host compiler.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../arguments.h"
#include "launch.h"

namespace cqdino {
namespace {

void check_points(const Sizes& sizes) {
  TORCH_CHECK_VALUE(sizes.levels * sizes.points <= cuda::MOST_POINTS,
                    "on CUDA levels x points may be ", cuda::MOST_POINTS, " at most, got ",
                    sizes.levels, " x ", sizes.points);
}

at::Tensor forward(const at::Tensor& value, const at::Tensor& spatial_shapes,
                   const at::Tensor& level_start_index, const at::Tensor& places,
                   const at::Tensor& weights, const std::optional<at::Tensor>& references) {
  const Arguments arguments =
      check_arguments(value, spatial_shapes, level_start_index, places, weights, references);
  const Sizes& sizes = arguments.sizes;
  check_points(sizes);
  const c10::cuda::CUDAGuard on_device(value.device());
  at::Tensor output =
      at::empty({sizes.batch, sizes.queries, sizes.heads * sizes.channels}, value.options());
  with_types(value.scalar_type(), [&](auto types) {
    using T = typename decltype(types)::T;
    using F = typename decltype(types)::F;
    auto problem = make_problem<T, F>(arguments);
    problem.output = static_cast<T*>(output.mutable_data_ptr());
    C10_CUDA_CHECK(cuda::launch_forward(problem, c10::cuda::getCurrentCUDAStream().stream()));
  });
  return output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const at::Tensor& spatial_shapes, const at::Tensor& level_start_index,
                   const at::Tensor& places, const at::Tensor& weights,
                   const std::optional<at::Tensor>& references) {
  at::globalContext().alertNotDeterministic("deformable_attention_backward on CUDA");
  const Arguments arguments =
      check_arguments(value, spatial_shapes, level_start_index, places, weights, references);
  check_points(arguments.sizes);
  const at::Tensor gradient = check_gradient(grad_output, arguments);
  const c10::cuda::CUDAGuard on_device(value.device());
  const at::ScalarType type = value.scalar_type();
  const at::ScalarType exact = type == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor sums = at::zeros(arguments.value.sizes(), value.options().dtype(exact));
  at::Tensor grad_places = at::empty_like(arguments.places);
  at::Tensor grad_weights = at::empty_like(arguments.weights);
  with_types(type, [&](auto types) {
    using T = typename decltype(types)::T;
    using F = typename decltype(types)::F;
    auto problem = make_problem<T, F>(arguments);
    set_gradients(problem, gradient, grad_places, grad_weights);
    C10_CUDA_CHECK(cuda::launch_backward(problem, static_cast<F*>(sums.mutable_data_ptr()),
                                         c10::cuda::getCurrentCUDAStream().stream()));
  });
  return {sums.to(type), grad_places, grad_weights};
}

}  // namespace
}  // namespace cqdino

TORCH_LIBRARY_IMPL(cqdino_d2, CUDA, library) {
  library.impl("deformable_attention", cqdino::forward);
  library.impl("deformable_attention_backward", cqdino::backward);
}
