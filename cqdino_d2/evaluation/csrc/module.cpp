// cqdino_d2._evaluation: an evaluation over NumPy arrays, category by category; no torch.
#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>
#include <sstream>
#include <thread>

#include "arrays.h"
#include "matching.h"
#include "results_json.h"

namespace cqdino_d2::evaluation {

namespace {

constexpr int64_t kMostThreads = 1024;

template <class T>
std::vector<T> to_vector(const In<T>& array) {
  return {array.data(), array.data() + array.size()};
}

// Row numbers listed by category (those of category -1 left out), in their order.
void list_by_category(const In<int32_t>& categories, int64_t num_categories,
                      std::vector<int64_t>& offsets, std::vector<int32_t>& rows) {
  const int32_t* of = categories.data();
  const int64_t count = categories.size();
  offsets.assign(num_categories + 1, 0);
  for (int64_t i = 0; i < count; ++i) {
    require(of[i] >= -1 && of[i] < num_categories, "row ", i, " has category ", of[i],
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
void for_each_category(int64_t num_categories, int64_t num_threads, Make make) {
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
  const int64_t count = std::min(num_threads, num_categories);
  for (int64_t i = 1; i < count; ++i) threads.emplace_back(work);
  work();
  for (auto& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

// One more than the largest number.
template <class T>
int32_t count_of(const In<T>& numbers, const char* name) {
  if (!numbers.size()) return 0;
  const auto [low, high] = std::minmax_element(numbers.data(), numbers.data() + numbers.size());
  require(*low >= 0 && *high < INT32_MAX, name, " has numbers out of range");
  return static_cast<int32_t>(*high) + 1;
}

// Sorting by them needs an order.
template <class Real>
void require_no_nan(const Real* begin, const Real* end, const char* name) {
  const auto is_nan = [](Real number) { return std::isnan(number); };
  require(std::none_of(begin, end, is_nan), name, " has a NaN");
}

void require_threads(int64_t num_threads) {
  require(1 <= num_threads && num_threads <= kMostThreads, "num_threads must be in 1..",
          kMostThreads, ", got ", num_threads);
}

Rules make_rules(const In<double>& iou, const In<double>& recall, const In<double>& areas,
                 const In<int64_t>& max_dets) {
  require(1 <= iou.size() && iou.size() <= 32, "expected 1..32 IoU thresholds, got ", iou.size());
  const int64_t ranges = areas.size() / 2, limits = max_dets.size();
  require(1 <= ranges && ranges <= 8, "expected 1..8 area ranges, got ", ranges);
  require(limits > 0, "max_dets is empty");
  require(max_dets.data()[0] >= 1, "max_dets must be positive");
  require(std::is_sorted(max_dets.data(), max_dets.data() + limits), "max_dets must ascend");
  Rules rules{to_vector(iou), to_vector(recall), {}, {}, to_vector(max_dets)};
  for (int64_t i = 0; i < areas.size(); i += 2) {
    rules.area_low.push_back(areas.data()[i]);
    rules.area_high.push_back(areas.data()[i + 1]);
  }
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

// The categories' masks in one table; the codes count on in it.
std::vector<Masks> join_masks(const Rules& rules,
                              const std::vector<std::vector<Masks>>& of_category,
                              const std::vector<int64_t>& starts, const int64_t* ends,
                              int32_t* codes) {
  std::vector<Masks> all = plain_masks(rules);
  const int64_t ranges = rules.areas(), plain = int64_t{1} << ranges;
  for (size_t k = 0; k < of_category.size(); ++k) {
    const int64_t base = static_cast<int64_t>(all.size()) / ranges - plain;
    require(base < INT32_MAX - 1'000'000, "too many matched detections");
    for (int64_t i = starts[k]; base > 0 && i < ends[k]; ++i) {
      if (codes[i] >= plain) codes[i] += static_cast<int32_t>(base);
    }
    all.insert(all.end(), of_category[k].begin(), of_category[k].end());
  }
  return all;
}

// The detections of all categories, matched: what Outcomes of problem.py holds.
template <class Real>
py::tuple match_all(const In<int32_t>& images, const In<int32_t>& categories,
                    const py::array& boxes_xywh, const py::array& all_scores,
                    const In<uint8_t>& exempt, Truth& truth, const Rules& rules,
                    int64_t num_categories, int64_t num_threads, bool keep_matches) {
  const int64_t n = images.size();
  const In<Real> boxes(boxes_xywh, "boxes", {n, 4}), scores(all_scores, "scores", {n});
  require_no_nan(scores.data(), scores.data() + n, "scores");
  std::vector<int64_t> offsets;
  std::vector<int32_t> rows;
  list_by_category(categories, num_categories, offsets, rows);
  const int64_t known = offsets.back();
  Out<int64_t> starts({num_categories}), ends({num_categories});
  Out<int64_t> num_boxes({num_categories, rules.areas()}), matches({keep_matches ? n : 0});
  Out<double> sorted({known});
  Out<int32_t> ranks({known}), codes({known});
  num_boxes.fill(0);
  codes.fill(0);  // also of detections beyond the limit
  matches.fill(kNotCounted);
  std::copy(offsets.begin(), offsets.end() - 1, starts.data());
  const Outcomes outcomes{sorted.data(), ranks.data(), codes.data(), num_boxes.data(),
                          keep_matches ? matches.data() : nullptr};
  int64_t* end_of = ends.data();
  std::vector<std::vector<Masks>> masks(num_categories);
  std::vector<Masks> table;
  {
    const py::gil_scoped_release others_may_run;
    for_each_category(num_categories, num_threads, [&] {
      return [&, matcher = Matcher<Real>(rules, truth, boxes.data(),
                                         exempt.size() ? exempt.data() : nullptr),
              detections = std::vector<Detection>()](int64_t k) mutable {
        detections.clear();
        for (int64_t i = offsets[k]; i < offsets[k + 1]; ++i) {
          const int32_t row = rows[i];
          const double score = static_cast<double>(scores.data()[row]);
          detections.push_back({images.data()[row], row, score, 0});
        }
        matcher.run(k, offsets[k], detections, masks[k], outcomes);
        end_of[k] = offsets[k] + static_cast<int64_t>(detections.size());
      };
    });
    table = join_masks(rules, masks, offsets, end_of, outcomes.codes);
  }
  static_assert(sizeof(Masks) == 2 * sizeof(int32_t));
  Out<int32_t> joined({static_cast<int64_t>(table.size()) / rules.areas(), rules.areas(), 2});
  std::memcpy(joined.data(), table.data(), table.size() * sizeof(Masks));
  return py::make_tuple(starts.array(), ends.array(), sorted.array(), ranks.array(), codes.array(),
                        joined.array(), num_boxes.array(), matches.array());
}

// Offsets of the rows of num_categories lists, or one 0 where there are none.
void require_offsets(const In<int64_t>& offsets, int64_t num_categories, int64_t total) {
  const int64_t* begin = offsets.data();
  const int64_t* end = begin + offsets.size();
  require(offsets.size() == num_categories + 1 || (offsets.size() == 1 && total == 0),
          "expected ", num_categories + 1, " ancestor_offsets, got ", offsets.size());
  require(begin[0] == 0 && end[-1] == total, "ancestor_offsets must go from 0 to ", total);
  require(std::is_sorted(begin, end), "ancestor_offsets must ascend");
}

py::tuple match_detections(const py::array& images, const py::array& categories,
                           const py::array& boxes, const py::array& scores,
                           const py::array& exempt, const py::array& gt_images,
                           const py::array& gt_categories, const py::array& gt_boxes,
                           const py::array& gt_areas, const py::array& gt_flags,
                           const py::array& ancestor_offsets, const py::array& ancestors,
                           const py::array& iou_thresholds, const py::array& area_ranges,
                           const py::array& max_dets, int64_t num_categories, int64_t num_threads,
                           bool keep_matches) {
  const int64_t n = images.size(), g = gt_images.size();
  require(n < INT32_MAX && g < INT32_MAX, "at most 2^31 - 2 rows, got ", n, ", ", g);
  require(0 <= num_categories && num_categories < INT32_MAX, "num_categories is out of range");
  require_threads(num_threads);
  const In<int32_t> of_image(images, "images", {n}), of_category(categories, "categories", {n});
  const In<uint8_t> excused(exempt, "exempt", {exempt.size() ? n : 0});
  const In<int32_t> image_of_box(gt_images, "gt_images", {g});
  const In<int32_t> category_of_box(gt_categories, "gt_categories", {g});
  const In<double> gt_box(gt_boxes, "gt_boxes", {g, 4}), gt_area(gt_areas, "gt_areas", {g});
  const In<uint8_t> flags(gt_flags, "gt_flags", {g});
  const In<int64_t> above_offsets(ancestor_offsets, "ancestor_offsets", {ancestor_offsets.size()});
  const In<int64_t> above(ancestors, "ancestors", {ancestors.size()});
  require_offsets(above_offsets, num_categories, above.size());
  const bool tree = num_categories > 0 && above.size() > 0;
  require(count_of(above, "ancestors") <= num_categories, "unknown ancestors");
  require(std::is_sorted(image_of_box.data(), image_of_box.data() + g), "gt_images must ascend");
  const Rules rules = make_rules(
      {iou_thresholds, "iou_thresholds", {iou_thresholds.size()}}, In<double>(),
      {area_ranges, "area_ranges", {area_ranges.size() / 2, 2}},
      {max_dets, "max_dets", {max_dets.size()}});
  Truth truth{image_of_box.data(),
              gt_box.data(),
              gt_area.data(),
              flags.data(),
              tree ? above_offsets.data() : nullptr,
              above.data(),
              {},
              {},
              std::max(count_of(of_image, "images"), count_of(image_of_box, "gt_images"))};
  list_by_category(category_of_box, num_categories, truth.offsets, truth.rows);
  const auto match = py::isinstance<py::array_t<float>>(scores) ? match_all<float>
                                                                : match_all<double>;
  return match(of_image, of_category, boxes, scores, excused, truth, rules, num_categories,
               num_threads, keep_matches);
}

py::tuple accumulate_outcomes(const py::array& starts, const py::array& ends,
                              const py::array& scores, const py::array& ranks,
                              const py::array& codes, const py::array& masks,
                              const py::array& num_boxes, const py::array& iou_thresholds,
                              const py::array& recall_thresholds, const py::array& area_ranges,
                              const py::array& max_dets, int64_t num_threads, bool keep_all) {
  const Rules rules = make_rules(
      {iou_thresholds, "iou_thresholds", {iou_thresholds.size()}},
      {recall_thresholds, "recall_thresholds", {recall_thresholds.size()}},
      {area_ranges, "area_ranges", {area_ranges.size() / 2, 2}},
      {max_dets, "max_dets", {max_dets.size()}});
  const int64_t n = scores.size(), k = starts.size(), a = rules.areas(), m = rules.limits(),
                t = rules.steps(), r = rules.recalls();
  require(n < INT32_MAX && k < INT32_MAX, "at most 2^31 - 2 rows, got ", n, ", ", k);
  require(r >= 1, "recall_thresholds is empty");
  require_threads(num_threads);
  const In<int64_t> start(starts, "starts", {k}), end(ends, "ends", {k});
  const In<double> score(scores, "scores", {n});
  const In<int32_t> rank(ranks, "ranks", {n}), code(codes, "codes", {n});
  const In<int32_t> mask(masks, "masks", {masks.size() / (2 * a), a, 2});
  const In<int64_t> boxes(num_boxes, "num_boxes", {k, a});
  for (int64_t i = 0; i < k; ++i) {
    require(0 <= start.data()[i] && start.data()[i] <= end.data()[i] && end.data()[i] <= n,
            "category ", i, " has rows ", start.data()[i], "..", end.data()[i], " of ", n);
    // what lies between the rows of two categories was never written
    require_no_nan(score.data() + start.data()[i], score.data() + end.data()[i], "scores");
  }
  require(count_of(code, "codes") <= masks.size() / (2 * a), "codes without masks");
  const bool counted = std::none_of(boxes.data(), boxes.data() + k * a, [](int64_t count) {
    return count < 0;
  });
  require(counted, "num_boxes has negative numbers");
  const int64_t kept = keep_all ? m : 1;
  Out<double> precision({k, a, kept, t, r}), recall({k, a, m, t});
  Out<double> reached({keep_all ? k : 0, a, m, t, r});
  const auto* table = reinterpret_cast<const Masks*>(mask.data());
  {
    const py::gil_scoped_release others_may_run;
    for_each_category(k, num_threads, [&] {
      return [&, accumulator = Accumulator(rules)](int64_t category) mutable {
        const int64_t at = start.data()[category], values = a * kept * t * r;
        const Curves curves{precision.data() + values * category,
                            recall.data() + a * m * t * category,
                            keep_all ? reached.data() + values * category : nullptr};
        std::fill_n(curves.precision, values, -1.0);
        std::fill_n(curves.recall, a * m * t, -1.0);
        if (keep_all) std::fill_n(curves.scores, values, -1.0);
        accumulator.run({end.data()[category] - at, score.data() + at, rank.data() + at,
                         code.data() + at, table, boxes.data() + a * category},
                        curves);
      };
    });
  }
  return py::make_tuple(precision.array(), recall.array(), reached.array());
}

// (image ids, category ids, boxes (N, 4), scores), or None where not all of it are records.
py::object parse_results(const py::buffer& text) {
  const py::buffer_info bytes = text.request();
  require(bytes.ndim == 1 && bytes.itemsize == 1 && (bytes.size < 2 || bytes.strides[0] == 1),
          "text must be bytes in one piece");
  const char* begin = static_cast<const char*>(bytes.ptr);
  ResultColumns columns;
  bool whole;
  {
    const py::gil_scoped_release others_may_run;
    whole = read_records(begin, begin + bytes.size, columns);
  }
  if (!whole) return py::none();
  const auto rows = static_cast<int64_t>(columns.scores.size());
  return py::make_tuple(array_of(columns.image_ids, {rows}),
                        array_of(columns.category_ids, {rows}), array_of(columns.boxes, {rows, 4}),
                        array_of(columns.scores, {rows}));
}

}  // namespace

}  // namespace cqdino_d2::evaluation

// Looked up in the binary before it is loaded, see extension.py; kept in one piece there.
[[gnu::used]] const char kBuildTag[] = CQDINO_BUILD_TAG;

PYBIND11_MODULE(_evaluation, module) {
  namespace evaluation = cqdino_d2::evaluation;
  module.doc() = &kBuildTag[0];
  module.def("match_detections", &evaluation::match_detections);
  module.def("accumulate_outcomes", &evaluation::accumulate_outcomes);
  module.def("parse_results", &evaluation::parse_results);
}
