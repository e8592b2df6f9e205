// The operators on the CPU: memory, threads, and the kernels of the chosen instruction set.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "../arguments.h"
#include "capability.h"
#include "kernels.h"

namespace cqdino {
namespace {

constexpr int64_t QUERIES_AT_ONCE = 128;  // of one head, at least, for a thread of its own
// Copying a head's rows together costs about as much as this many visits to each of them.
constexpr int64_t VISITS_WORTH_PACKING = 8;

template <class T, class F>
Kernels<T, F> choose_kernels() {
  const Capability capability = cpu_capability();
#if defined(__x86_64__)
  if (capability == Capability::AVX512) return avx512::kernels<T, F>();
  if (capability == Capability::AVX2) return avx2::kernels<T, F>();
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
    int64_t** wholes[] = {&table.start, &table.token};
    int32_t** integers[] = {&table.height, &table.width, &table.corners};
    F** reals[] = {&table.base_x,     &table.base_y,      &table.scale_x,     &table.scale_y,
                   &table.down,       &table.right,       &table.weight,      &table.outside,
                   &table.top_left,   &table.top_right,   &table.bottom_left, &table.bottom_right,
                   &table.grad_x,     &table.grad_y,      &table.grad_weight};
    wholes_.resize(count * std::size(wholes));
    integers_.resize(count * std::size(integers));
    reals_.resize(count * (std::size(reals) + 4));
    for (size_t i = 0; i < std::size(wholes); ++i) *wholes[i] = wholes_.data() + i * count;
    for (size_t i = 0; i < std::size(integers); ++i) *integers[i] = integers_.data() + i * count;
    for (size_t i = 0; i < std::size(reals); ++i) *reals[i] = reals_.data() + i * count;
    table.product = reals_.data() + std::size(reals) * count;
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
  std::vector<int64_t> wholes_;
  std::vector<int32_t> integers_;
  std::vector<F> reals_;
};

// Memory of one thread for the rows of one head; it begins with a cache line.
template <class T>
class Rows {
 public:
  explicit Rows(const Sizes& sizes) : count_(sizes.tokens * sizes.channels) {}

  T* get() {
    if (!memory_) memory_ = c10::GetCPUAllocator()->allocate(count_ * sizeof(T));
    return static_cast<T*>(memory_.get());
  }
  T* zeros() {
    std::fill_n(get(), count_, T(0));
    return get();
  }

 private:
  int64_t count_;
  c10::DataPtr memory_;
};

// The number of the first channel of a head in a tensor (B, T, H, C).
int64_t start_of(const Part& part, const Sizes& sizes) {
  return (part.image * sizes.tokens * sizes.heads + part.head) * sizes.channels;
}

template <class T>
struct Values {
  const T* first;
  int64_t stride;
};

// In a tensor a head's rows lie as far apart as all heads together are wide: mostly a power of two,
// which uses few of a cache's sets, and many pages. Where the part visits the rows often enough
// they are copied to lie side by side.
template <class T, class F>
Values<T> values_of(const Problem<T, F>& problem, const Part& part, const Kernels<T, F>& kernels,
                    Rows<T>& packed) {
  const Sizes& sizes = problem.sizes;
  const Values<T> values{problem.value + start_of(part, sizes), sizes.heads * sizes.channels};
  const int64_t visits = (part.last - part.first) * sizes.levels * sizes.points * 4;
  if (sizes.heads == 1 || visits < VISITS_WORTH_PACKING * sizes.tokens) return values;
  kernels.pack(sizes, values.first, values.stride, packed.get());
  return {packed.get(), sizes.channels};
}

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
    // Counted by images, heads, queries.
    const int64_t count = sizes.batch * sizes.heads * sizes.queries;
    at::parallel_for(0, count, QUERIES_AT_ONCE, [&](int64_t begin, int64_t end) {
      Points<F> points(problem);
      Rows<T> packed(sizes);
      for (int64_t i = begin; i < end;) {
        const int64_t pair = i / sizes.queries, first = i % sizes.queries;
        const int64_t last = std::min(sizes.queries, first + end - i);
        const Part part{pair / sizes.heads, pair % sizes.heads, first, last};
        const auto values = values_of(problem, part, kernels, packed);
        kernels.forward(problem, part, values.first, values.stride, points.table);
        i += last - first;
      }
    });
  });
  return output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& value,
                   const at::Tensor& spatial_shapes, const at::Tensor& level_start_index,
                   const at::Tensor& places, const at::Tensor& weights,
                   const std::optional<at::Tensor>& references) {
  const Arguments arguments =
      check_arguments(value, spatial_shapes, level_start_index, places, weights, references);
  const at::Tensor gradient = check_gradient(grad_output, arguments);
  at::Tensor grad_value = at::empty_like(arguments.value);
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
    // Those of a type that is narrower than float32 are added up in float32 and rounded once.
    const Sizes& sizes = arguments.sizes;
    at::parallel_for(0, sizes.batch * sizes.heads, 1, [&](int64_t begin, int64_t end) {
      Points<F> points(problem);
      Rows<T> packed(sizes);
      Rows<F> sums(sizes);
      for (int64_t i = begin; i < end; ++i) {
        const Part part{i / sizes.heads, i % sizes.heads, 0, sizes.queries};
        const auto values = values_of(problem, part, kernels, packed);
        kernels.backward(problem, part, values.first, values.stride, sums.zeros(), points.table);
        kernels.unpack(sizes, sums.get(), problem.grad_value + start_of(part, sizes),
                       sizes.heads * sizes.channels);
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
