// torch.ops.cqdino_d2.match_detections and accumulate_outcomes: an evaluation, category by
// category.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "matching.h"

namespace cqdino_d2::evaluation {

namespace {

using at::Tensor;

std::vector<double> to_vector(const Tensor& tensor) {
  return {tensor.const_data_ptr<double>(), tensor.const_data_ptr<double>() + tensor.numel()};
}

// Row numbers listed by category (those of category -1 left out), in their order.
void list_by_category(const Tensor& categories, int64_t num_categories,
                      std::vector<int64_t>& offsets, std::vector<int32_t>& rows) {
  const int32_t* of = categories.const_data_ptr<int32_t>();
  const int64_t count = categories.numel();
  offsets.assign(num_categories + 1, 0);
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK_VALUE(of[i] >= -1 && of[i] < num_categories, "row ", i, " has category ", of[i],
                      ", expected -1..", num_categories - 1);
    if (of[i] >= 0) ++offsets[of[i] + 1];
  }
  for (int64_t k = 0; k < num_categories; ++k) offsets[k + 1] += offsets[k];
  rows.resize(offsets.back());
  std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
  for (int64_t i = 0; i < count; ++i) {
    if (of[i] >= 0) rows[next[of[i]]++] = static_cast<int32_t>(i);
  }
}

// In every thread calls make() once, and what it returns with one category after the other.
template <class Make>
void for_each_category(int64_t num_categories, Make make) {
  std::atomic<int64_t> next{0};
  std::exception_ptr error;
  std::mutex guard;
  const auto work = [&] {
    try {
      auto run = make();
      for (int64_t k = next++; k < num_categories; k = next++) run(k);
    } catch (...) {
      next = num_categories;
      const std::lock_guard<std::mutex> lock(guard);
      error = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  const int64_t count = std::min<int64_t>(at::get_num_threads(), num_categories);
  for (int64_t i = 1; i < count; ++i) threads.emplace_back(work);
  work();
  for (auto& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

// One more than the largest number.
int32_t count_of(const Tensor& numbers, const char* name) {
  if (!numbers.numel()) return 0;
  TORCH_CHECK_VALUE(numbers.min().item<int64_t>() >= 0, name, " has negative numbers");
  return static_cast<int32_t>(numbers.max().item<int64_t>()) + 1;
}

void check(const Tensor& tensor, at::ScalarType type, std::initializer_list<int64_t> sizes,
           const char* name) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == type && tensor.is_contiguous() &&
                        tensor.device().is_cpu() && tensor.sizes() == at::IntArrayRef(sizes),
                    name, " must be a contiguous CPU tensor of ", type, " and shape ",
                    at::IntArrayRef(sizes), ", got ", tensor.scalar_type(), " ", tensor.sizes());
}

Rules make_rules(const Tensor& iou, const Tensor& recall, const Tensor& areas,
                 const Tensor& max_dets) {
  check(iou, at::kDouble, {iou.numel()}, "iou_thresholds");
  check(recall, at::kDouble, {recall.numel()}, "recall_thresholds");
  check(areas, at::kDouble, {areas.numel() / 2, 2}, "area_ranges");
  check(max_dets, at::kLong, {max_dets.numel()}, "max_dets");
  TORCH_CHECK_VALUE(iou.numel() <= 32, "at most 32 IoU thresholds, got ", iou.numel());
  TORCH_CHECK_VALUE(max_dets.numel() > 0, "max_dets is empty");
  Rules rules{to_vector(iou), to_vector(recall), {}, {}, {}};
  const double* range = areas.const_data_ptr<double>();
  for (int64_t i = 0; i < areas.numel(); i += 2) {
    rules.area_low.push_back(range[i]);
    rules.area_high.push_back(range[i + 1]);
  }
  const int64_t* limit = max_dets.const_data_ptr<int64_t>();
  rules.max_dets.assign(limit, limit + max_dets.numel());
  return rules;
}

// Masks of detections that were matched nowhere: at each step skipped in the ranges of the code.
std::vector<Masks> plain_masks(const Rules& rules) {
  std::vector<Masks> masks;
  for (int64_t code = 0; code < int64_t{1} << rules.areas(); ++code) {
    for (int64_t range = 0; range < rules.areas(); ++range) {
      masks.push_back({0, code >> range & 1 ? rules.every_step() : 0});
    }
  }
  return masks;
}

// Puts the categories' masks into one table and lets the codes count on in it.
Tensor join_masks(const Rules& rules, const std::vector<std::vector<Masks>>& of_category,
                  const std::vector<int64_t>& starts, const int64_t* ends, int32_t* codes) {
  std::vector<Masks> all = plain_masks(rules);
  const int64_t ranges = rules.areas(), plain = int64_t{1} << ranges;
  for (size_t k = 0; k < of_category.size(); ++k) {
    const int64_t base = static_cast<int64_t>(all.size()) / ranges - plain;
    TORCH_CHECK_VALUE(base < INT32_MAX - 1'000'000, "too many matched detections");
    for (int64_t i = starts[k]; base > 0 && i < ends[k]; ++i) {
      if (codes[i] >= plain) codes[i] += static_cast<int32_t>(base);
    }
    all.insert(all.end(), of_category[k].begin(), of_category[k].end());
  }
  Tensor masks = at::empty({static_cast<int64_t>(all.size()) / ranges, ranges, 2}, at::kInt);
  static_assert(sizeof(Masks) == 2 * sizeof(int32_t));
  std::memcpy(masks.mutable_data_ptr(), all.data(), all.size() * sizeof(Masks));
  return masks;
}

using Matched = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Matched match_detections(const Tensor& images, const Tensor& categories, const Tensor& boxes,
                         const Tensor& scores, const Tensor& exempt, const Tensor& gt_images,
                         const Tensor& gt_categories, const Tensor& gt_boxes,
                         const Tensor& gt_areas, const Tensor& gt_flags,
                         const Tensor& ancestor_offsets, const Tensor& ancestors,
                         const Tensor& iou_thresholds, const Tensor& area_ranges,
                         const Tensor& max_dets, int64_t num_categories, bool keep_matches) {
  const int64_t n = images.numel(), g = gt_images.numel();
  TORCH_CHECK_VALUE(n < INT32_MAX && g < INT32_MAX, "at most 2^31 - 2 rows, got ", n, ", ", g);
  check(images, at::kInt, {n}, "images");
  check(categories, at::kInt, {n}, "categories");
  check(boxes, scores.scalar_type(), {n, 4}, "boxes");
  check(scores, scores.scalar_type(), {n}, "scores");
  if (exempt.numel()) check(exempt, at::kByte, {n}, "exempt");
  check(gt_images, at::kInt, {g}, "gt_images");
  check(gt_categories, at::kInt, {g}, "gt_categories");
  check(gt_boxes, at::kDouble, {g, 4}, "gt_boxes");
  check(gt_areas, at::kDouble, {g}, "gt_areas");
  check(gt_flags, at::kByte, {g}, "gt_flags");
  const bool tree = ancestor_offsets.numel() == num_categories + 1 && num_categories > 0;
  TORCH_CHECK_VALUE(tree ? ancestor_offsets[num_categories].item<int64_t>() == ancestors.numel()
                         : ancestors.numel() == 0,
                    "ancestor_offsets does not fit ancestors");
  TORCH_CHECK_VALUE(count_of(ancestors, "ancestors") <= num_categories, "unknown ancestors");
  const Rules rules = make_rules(iou_thresholds, at::empty({0}, at::kDouble), area_ranges, max_dets);
  TORCH_CHECK_VALUE(rules.areas() >= 1 && rules.areas() <= 8, "expected 1..8 area ranges");

  Truth truth{gt_images.const_data_ptr<int32_t>(),
              gt_boxes.const_data_ptr<double>(),
              gt_areas.const_data_ptr<double>(),
              gt_flags.const_data_ptr<uint8_t>(),
              tree ? ancestor_offsets.const_data_ptr<int64_t>() : nullptr,
              ancestors.const_data_ptr<int64_t>(),
              {},
              {},
              std::max(count_of(images, "images"), count_of(gt_images, "gt_images"))};
  list_by_category(gt_categories, num_categories, truth.offsets, truth.rows);
  std::vector<int64_t> offsets;
  std::vector<int32_t> rows;
  list_by_category(categories, num_categories, offsets, rows);

  const auto whole = at::TensorOptions().dtype(at::kLong);
  const int64_t known = offsets.back();
  Tensor starts = at::empty({num_categories}, whole), ends = at::empty({num_categories}, whole);
  Tensor sorted = at::empty({known}, at::kDouble), ranks = at::empty({known}, at::kInt);
  Tensor codes = at::empty({known}, at::kInt);
  Tensor num_boxes = at::zeros({num_categories, rules.areas()}, whole);
  Tensor matches = keep_matches ? at::full({n}, static_cast<int64_t>(kNotCounted), whole)
                                : at::empty({0}, whole);
  const Outcomes outcomes{sorted.mutable_data_ptr<double>(), ranks.mutable_data_ptr<int32_t>(),
                          codes.mutable_data_ptr<int32_t>(),
                          num_boxes.mutable_data_ptr<int64_t>(),
                          keep_matches ? matches.mutable_data_ptr<int64_t>() : nullptr};
  std::copy(offsets.begin(), offsets.end() - 1, starts.mutable_data_ptr<int64_t>());
  int64_t* end_of = ends.mutable_data_ptr<int64_t>();
  std::vector<std::vector<Masks>> masks(num_categories);
  const int32_t* of_image = images.const_data_ptr<int32_t>();
  const uint8_t* excused = exempt.numel() ? exempt.const_data_ptr<uint8_t>() : nullptr;
  AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "match_detections", [&] {
    const scalar_t* score = scores.const_data_ptr<scalar_t>();
    const scalar_t* box = boxes.const_data_ptr<scalar_t>();
    for_each_category(num_categories, [&] {
      return [&, matcher = Matcher<scalar_t>(rules, truth, box, excused),
              detections = std::vector<Detection>()](int64_t k) mutable {
        detections.clear();
        for (int64_t i = offsets[k]; i < offsets[k + 1]; ++i) {
          const int32_t row = rows[i];
          detections.push_back({of_image[row], row, static_cast<double>(score[row]), 0});
        }
        matcher.run(k, offsets[k], detections, masks[k], outcomes);
        end_of[k] = offsets[k] + static_cast<int64_t>(detections.size());
      };
    });
  });
  Tensor table = join_masks(rules, masks, offsets, end_of, outcomes.codes);
  return {starts, ends, sorted, ranks, codes, table, num_boxes, matches};
}

using Accumulated = std::tuple<Tensor, Tensor, Tensor>;

Accumulated accumulate_outcomes(const Tensor& starts, const Tensor& ends, const Tensor& scores,
                                const Tensor& ranks, const Tensor& codes, const Tensor& masks,
                                const Tensor& num_boxes, const Tensor& iou_thresholds,
                                const Tensor& recall_thresholds, const Tensor& area_ranges,
                                const Tensor& max_dets, bool keep_all) {
  const Rules rules = make_rules(iou_thresholds, recall_thresholds, area_ranges, max_dets);
  const int64_t n = scores.numel(), k = starts.numel(), a = rules.areas(), m = rules.limits(),
                t = rules.steps(), r = rules.recalls();
  check(starts, at::kLong, {k}, "starts");
  check(ends, at::kLong, {k}, "ends");
  check(scores, at::kDouble, {n}, "scores");
  check(ranks, at::kInt, {n}, "ranks");
  check(codes, at::kInt, {n}, "codes");
  check(masks, at::kInt, {masks.size(0), a, 2}, "masks");
  check(num_boxes, at::kLong, {k, a}, "num_boxes");
  const auto real = at::TensorOptions().dtype(at::kDouble);
  const int64_t kept = keep_all ? m : 1;
  Tensor precision = at::full({k, a, kept, t, r}, -1.0, real);
  Tensor recall = at::full({k, a, m, t}, -1.0, real);
  Tensor reached = keep_all ? at::full({k, a, m, t, r}, -1.0, real) : at::empty({0}, real);
  const int64_t* start = starts.const_data_ptr<int64_t>();
  const int64_t* end = ends.const_data_ptr<int64_t>();
  double* to_precision = precision.mutable_data_ptr<double>();
  double* to_recall = recall.mutable_data_ptr<double>();
  double* to_scores = keep_all ? reached.mutable_data_ptr<double>() : nullptr;
  const auto* table = reinterpret_cast<const Masks*>(masks.const_data_ptr<int32_t>());
  for_each_category(k, [&] {
    return [&, accumulator = Accumulator(rules)](int64_t category) mutable {
      const int64_t at = start[category], curve = a * kept * t * r * category;
      accumulator.run({end[category] - at, scores.const_data_ptr<double>() + at,
                       ranks.const_data_ptr<int32_t>() + at, codes.const_data_ptr<int32_t>() + at,
                       table, num_boxes.const_data_ptr<int64_t>() + a * category},
                      {to_precision + curve, to_recall + a * m * t * category,
                       to_scores ? to_scores + curve : nullptr});
    };
  });
  return {precision, recall, reached};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(cqdino_d2, m) {
  m.def(
      "match_detections(Tensor images, Tensor categories, Tensor boxes, Tensor scores, "
      "Tensor exempt, Tensor gt_images, Tensor gt_categories, Tensor gt_boxes, Tensor gt_areas, "
      "Tensor gt_flags, Tensor ancestor_offsets, Tensor ancestors, Tensor iou_thresholds, "
      "Tensor area_ranges, Tensor max_dets, int num_categories, bool keep_matches) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "accumulate_outcomes(Tensor starts, Tensor ends, Tensor scores, Tensor ranks, Tensor codes, "
      "Tensor masks, Tensor num_boxes, Tensor iou_thresholds, Tensor recall_thresholds, "
      "Tensor area_ranges, Tensor max_dets, bool keep_all) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(cqdino_d2, CPU, m) {
  m.impl("match_detections", match_detections);
  m.impl("accumulate_outcomes", accumulate_outcomes);
}

}  // namespace cqdino_d2::evaluation
