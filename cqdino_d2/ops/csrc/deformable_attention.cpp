// Schemas of the operators, the checks of their arguments, and what autocast does.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "arguments.h"

namespace cqdino {
namespace {

bool is_float_type(at::ScalarType type) {
  return type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16;
}

// One line per tensor: on the value's device, of the type, of the sizes.
void check_tensor(const char* name, const at::Tensor& tensor, const at::Tensor& value,
                  at::ScalarType type, at::IntArrayRef sizes) {
  TORCH_CHECK_VALUE(tensor.device() == value.device(), name, " is on ", tensor.device(),
                    ", value on ", value.device());
  TORCH_CHECK_TYPE(tensor.scalar_type() == type, name, " is ", tensor.scalar_type(), ", expected ",
                   type, " for values of type ", value.scalar_type());
  TORCH_CHECK_VALUE(tensor.sizes() == sizes, name, " is ", tensor.sizes(), ", expected ", sizes);
}

// On a GPU the kernels check this: to look at the numbers here would stop the queue.
void check_levels(const Arguments& arguments) {
  const int64_t* shapes = arguments.shapes.const_data_ptr<int64_t>();
  const int64_t* starts = arguments.starts.const_data_ptr<int64_t>();
  for (int64_t level = 0; level < arguments.sizes.levels; ++level) {
    const int64_t height = shapes[2 * level], width = shapes[2 * level + 1];
    const int64_t start = starts[level], tokens = arguments.sizes.tokens;
    const bool inside = level_is_inside(height, width, start, tokens);
    TORCH_CHECK_VALUE(inside, "level ", level, " of ", height, " x ", width, " from token ", start,
                      " does not lie within ", tokens, " tokens");
  }
}

}  // namespace

Arguments check_arguments(const at::Tensor& value, const at::Tensor& spatial_shapes,
                          const at::Tensor& level_start_index, const at::Tensor& places,
                          const at::Tensor& weights, const std::optional<at::Tensor>& references) {
  const at::ScalarType type = value.scalar_type();
  const at::ScalarType exact = type == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_TYPE(is_float_type(type), "value must be float, double, half or bfloat16, got ",
                   type);
  TORCH_CHECK_VALUE(value.dim() == 4, "value must be (B, T, H, C), got ", value.sizes());
  TORCH_CHECK_VALUE(places.dim() == 6, "locations or offsets must be (B, Q, H, L, P, 2), got ",
                    places.sizes());
  Sizes sizes{value.size(0),  value.size(1),  value.size(2),  value.size(3),
              places.size(1), places.size(3), places.size(4), 0};
  const auto [B, T, H, C, Q, L, P, ignored] = sizes;
  check_tensor("spatial_shapes", spatial_shapes, value, at::kLong, {L, 2});
  check_tensor("level_start_index", level_start_index, value, at::kLong, {L});
  check_tensor("attention_weights", weights, value, type, {B, Q, H, L, P});
  if (references.has_value()) {
    sizes.reference_size = references->size(-1);
    TORCH_CHECK_VALUE(sizes.reference_size == 2 || sizes.reference_size == 4,
                      "references must end in 2 or 4, got ", references->sizes());
    check_tensor("references", *references, value, exact, {B, Q, L, sizes.reference_size});
    check_tensor("sampling_offsets", places, value, type, {B, Q, H, L, P, 2});
  } else {
    check_tensor("sampling_locations", places, value, exact, {B, Q, H, L, P, 2});
  }
  Arguments arguments{value.contiguous(),
                      spatial_shapes.contiguous(),
                      level_start_index.contiguous(),
                      places.contiguous(),
                      weights.contiguous(),
                      references.has_value() ? references->contiguous() : at::Tensor(),
                      sizes};
  if (value.is_cpu()) check_levels(arguments);
  return arguments;
}

at::Tensor check_gradient(const at::Tensor& gradient, const Arguments& arguments) {
  const Sizes& sizes = arguments.sizes;
  check_tensor("the gradient of the output", gradient, arguments.value,
               arguments.value.scalar_type(),
               {sizes.batch, sizes.queries, sizes.heads * sizes.channels});
  return gradient.contiguous();
}

namespace {

using Forward = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                           const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&);

// Values and weights in autocast's type (float64 excepted), places that are no raw offsets and
// references in float32: a location in bfloat16 would be off by a third of a cell of a fine map.
template <c10::DeviceType device>
at::Tensor autocast(const at::Tensor& value, const at::Tensor& spatial_shapes,
                    const at::Tensor& level_start_index, const at::Tensor& places,
                    const at::Tensor& weights, const std::optional<at::Tensor>& references) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(
      c10::DispatchKeySet(at::autocast::get_autocast_dispatch_key_from_device_type(device)));
  const at::ScalarType lower = at::autocast::get_autocast_dtype(device);
  const bool exact = value.scalar_type() == at::kDouble;
  const at::ScalarType type = exact ? at::kDouble : lower;
  const at::ScalarType place_type = exact ? at::kDouble : at::kFloat;
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("cqdino_d2::deformable_attention", "")
                             .typed<Forward>();
  auto wide = references;
  if (references.has_value()) wide = references->to(place_type);
  return op.call(value.to(type), spatial_shapes, level_start_index,
                 places.to(references.has_value() ? type : place_type), weights.to(type), wide);
}

}  // namespace
}  // namespace cqdino

// With references (B, Q, L, 2 or 4), places are offsets and weights logits; without them, places
// are locations. See cqdino_d2/ops/deformable_attention.py.
TORCH_LIBRARY_FRAGMENT(cqdino_d2, library) {
  library.def(
      "deformable_attention(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor places, Tensor weights, Tensor? references=None) -> Tensor");
  library.def(
      "deformable_attention_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor places, Tensor weights, Tensor? references=None) "
      "-> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(cqdino_d2, AutocastCPU, library) {
  library.impl("deformable_attention", cqdino::autocast<c10::DeviceType::CPU>);
}

TORCH_LIBRARY_IMPL(cqdino_d2, AutocastCUDA, library) {
  library.impl("deformable_attention", cqdino::autocast<c10::DeviceType::CUDA>);
}
