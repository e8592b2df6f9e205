// The operators on the CPU: memory, threads, and the choice of the instruction set.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "../arguments.h"
#include "kernels.h"

namespace cqdino {
namespace {

constexpr int64_t QUERIES_AT_ONCE = 16;  // at least, for a thread of its own

// Follows ATen's choice, so also ATEN_CPU_CAPABILITY.
template <class T, class F>
Kernels<T, F> choose_kernels() {
#if defined(__x86_64__)
  static const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return avx512::kernels<T, F>();
  if (capability == "AVX2") return avx2::kernels<T, F>();
#endif
  return baseline::kernels<T, F>();
}

// The memory of a PointTable, and what is the same for all queries.
template <class F>
class Points {
 public:
  template <class T>
  explicit Points(const Problem<T, F>& problem) {
    const Sizes& sizes = problem.sizes;
    const int64_t count = sizes.levels * sizes.points;
    int32_t** integers[] = {&table.height, &table.width, &table.row, &table.column, &table.corners};
    F** reals[] = {&table.base_x,     &table.base_y,      &table.scale_x,
                   &table.scale_y,    &table.down,        &table.right,
                   &table.weight,     &table.outside,     &table.top_left,
                   &table.top_right,  &table.bottom_left, &table.bottom_right,
                   &table.product[0], &table.product[1],  &table.product[2],
                   &table.product[3], &table.grad_x,      &table.grad_y,
                   &table.grad_weight};
    starts_.resize(count);
    integers_.resize(count * std::size(integers));
    reals_.resize(count * std::size(reals));
    table.start = starts_.data();
    for (size_t i = 0; i < std::size(integers); ++i) *integers[i] = integers_.data() + i * count;
    for (size_t i = 0; i < std::size(reals); ++i) *reals[i] = reals_.data() + i * count;
    table.placed = -1;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t level = i / sizes.points;
      table.start[i] = problem.starts[level];
      table.height[i] = static_cast<int32_t>(problem.shapes[2 * level]);
      table.width[i] = static_cast<int32_t>(problem.shapes[2 * level + 1]);
      table.base_x[i] = table.base_y[i] = F(-0.5);
      table.scale_x[i] = F(table.width[i]);
      table.scale_y[i] = F(table.height[i]);
    }
  }
  Points(const Points&) = delete;
  Points& operator=(const Points&) = delete;

  PointTable<F> table{};

 private:
  std::vector<int64_t> starts_;
  std::vector<int32_t> integers_;
  std::vector<F> reals_;
};

at::Tensor forward(const at::Tensor& value, const at::Tensor& spatial_shapes,
                   const at::Tensor& level_start_index, const at::Tensor& places,
                   const at::Tensor& weights, const std::optional<at::Tensor>& references) {
  const Arguments arguments =
      check_arguments(value, spatial_shapes, level_start_index, places, weights, references);
  const Sizes& sizes = arguments.sizes;
  at::Tensor output =
      at::empty({sizes.batch, sizes.queries, sizes.heads * sizes.channels}, value.options());
  with_types(value.scalar_type(), [&](auto types) {
    using T = typename decltype(types)::T;
    using F = typename decltype(types)::F;
    auto problem = make_problem<T, F>(arguments);
    problem.output = static_cast<T*>(output.mutable_data_ptr());
    const auto kernels = choose_kernels<T, F>();
    at::parallel_for(0, sizes.batch * sizes.queries, QUERIES_AT_ONCE,
                     [&](int64_t begin, int64_t end) {
                       Points<F> points(problem);
                       kernels.forward(problem, begin, end, points.table);
                     });
  });
  return output;
}

// The gradients of the heads [first, last) of one image. Those of values of a type that is narrower
// than float32 are added up in float32 and rounded once.
template <class T, class F>
void backward_of_heads(const Problem<T, F>& problem, const Kernels<T, F>& kernels, int64_t image,
                       int64_t first, int64_t last, PointTable<F>& table) {
  const Sizes& sizes = problem.sizes;
  const int64_t stride = sizes.heads * sizes.channels;
  T* grad_value = problem.grad_value + image * sizes.tokens * stride + first * sizes.channels;
  if constexpr (std::is_same_v<T, F>) {
    kernels.backward(problem, image, first, last, grad_value, stride, table);
  } else {
    const int64_t width = (last - first) * sizes.channels;
    std::vector<F> sums(sizes.tokens * width);
    kernels.backward(problem, image, first, last, sums.data(), width, table);
    for (int64_t token = 0; token < sizes.tokens; ++token) {
      kernels.round(sums.data() + token * width, width, grad_value + token * stride);
    }
  }
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const at::Tensor& spatial_shapes, const at::Tensor& level_start_index,
                   const at::Tensor& places, const at::Tensor& weights,
                   const std::optional<at::Tensor>& references) {
  const Arguments arguments =
      check_arguments(value, spatial_shapes, level_start_index, places, weights, references);
  const at::Tensor gradient = check_gradient(grad_output, arguments);
  at::Tensor grad_value = at::zeros_like(arguments.value);
  at::Tensor grad_places = at::empty_like(arguments.places);
  at::Tensor grad_weights = at::empty_like(arguments.weights);
  with_types(value.scalar_type(), [&](auto types) {
    using T = typename decltype(types)::T;
    using F = typename decltype(types)::F;
    auto problem = make_problem<T, F>(arguments);
    set_gradients(problem, gradient, grad_places, grad_weights);
    problem.grad_value = static_cast<T*>(grad_value.mutable_data_ptr());
    const auto kernels = choose_kernels<T, F>();
    // Each thread owns the grad_value of its images and heads: no races, always the same sums.
    const int64_t heads = arguments.sizes.heads;
    at::parallel_for(0, arguments.sizes.batch * heads, 1, [&](int64_t begin, int64_t end) {
      Points<F> points(problem);
      for (int64_t i = begin; i < end;) {
        const int64_t image = i / heads, first = i % heads;
        const int64_t last = std::min(heads, first + end - i);
        backward_of_heads(problem, kernels, image, first, last, points.table);
        i += last - first;
      }
    });
  });
  return {grad_value, grad_places, grad_weights};
}

}  // namespace
}  // namespace cqdino

TORCH_LIBRARY_IMPL(cqdino_d2, CPU, library) {
  library.impl("deformable_attention", cqdino::forward);
  library.impl("deformable_attention_backward", cqdino::backward);
}
