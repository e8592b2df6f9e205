#include "matching.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cqdino_d2::evaluation {

namespace {

double intersection_over_union(const Box& d, const Box& g, bool crowd) {
  const double w = std::min(d.w + d.x, g.w + g.x) - std::max(d.x, g.x);
  if (w <= 0) return 0;
  const double h = std::min(d.h + d.y, g.h + g.y) - std::max(d.y, g.y);
  if (h <= 0) return 0;
  const double shared = w * h;
  return shared / (crowd ? d.area() : d.area() + g.area() - shared);
}

}  // namespace

template <class Real>
Worker<Real>::Worker(const Rules& rules, const Truth& truth, const Real* boxes,
                     const uint8_t* exempt)
    : rules_(rules),
      truth_(truth),
      boxes_(boxes),
      exempt_(exempt),
      last_category_(truth.num_images, -1),
      found_(rules.steps()) {}

template <class Real>
void Worker<Real>::run(int64_t category, std::vector<Detection>& detections,
                       const Output& output) {
  bool any = output.matches != nullptr;
  for (int64_t i = truth_.offsets[category]; i < truth_.offsets[category + 1]; ++i) {
    const int32_t row = truth_.rows[i];
    if (truth_.flags[row] & kIgnored) continue;
    for (int64_t range = 0; range < rules_.areas(); ++range) {
      if (rules_.outside(truth_.areas[row], range)) continue;
      ++output.num_boxes[range];
      any = true;
    }
  }
  if (!any) return;
  order_and_cut(detections);
  gather_truth(category, detections);
  hit_.assign(detections.size() * rules_.areas(), 0);
  skipped_.assign(detections.size() * rules_.areas(), 0);
  if (output.matches) {
    for (const Detection& d : detections) output.matches[d.row] = kUnmatched;
  }
  size_t first = 0, first_box = 0;
  while (first < detections.size() && first_box < candidates_.size()) {
    const int32_t image = detections[first].image;
    size_t last = first, last_box = first_box;
    while (last < detections.size() && detections[last].image == image) ++last;
    while (first_box < candidates_.size() && candidates_[first_box].image < image) ++first_box;
    last_box = first_box;
    while (last_box < candidates_.size() && candidates_[last_box].image == image) ++last_box;
    if (last_box > first_box) {
      match_image(detections, first, last, first_box, last_box, output.matches);
    }
    first = last;
    first_box = last_box;
  }
  excuse(detections);
  if (output.matches && exempt_) {
    for (const Detection& d : detections) {
      int64_t& match = output.matches[d.row];
      if (exempt_[d.row] && match == kUnmatched) match = kIgnoredMatch;
    }
  }
  accumulate(detections, output);
}

// By image, then best first, then as in the file; at most max_dets of an image stay.
template <class Real>
void Worker<Real>::order_and_cut(std::vector<Detection>& detections) const {
  std::sort(detections.begin(), detections.end(), [](const Detection& a, const Detection& b) {
    if (a.image != b.image) return a.image < b.image;
    if (a.score != b.score) return a.score > b.score;
    return a.row < b.row;
  });
  const int64_t limit = rules_.max_dets.back();
  size_t kept = 0;
  int32_t image = -1, rank = 0;
  for (Detection detection : detections) {
    rank = detection.image == image ? rank + 1 : 0;
    image = detection.image;
    if (rank >= limit) continue;
    detection.rank = rank;
    detections[kept++] = detection;
  }
  detections.resize(kept);
}

// The category's boxes and copies of its ancestors', in images where it was detected.
template <class Real>
void Worker<Real>::gather_truth(int64_t category, const std::vector<Detection>& detections) {
  for (const Detection& d : detections) last_category_[d.image] = static_cast<int32_t>(category);
  candidates_.clear();
  const auto add = [&](int64_t from, bool copy) {
    for (int64_t i = truth_.offsets[from]; i < truth_.offsets[from + 1]; ++i) {
      const int32_t row = truth_.rows[i], image = truth_.images[row];
      if (last_category_[image] == category) candidates_.push_back({image, row, copy});
    }
  };
  add(category, false);
  if (!truth_.ancestor_offsets) return;
  const size_t own = candidates_.size();
  for (int64_t i = truth_.ancestor_offsets[category]; i < truth_.ancestor_offsets[category + 1];
       ++i) {
    add(truth_.ancestors[i], true);
  }
  if (candidates_.size() == own) return;
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    if (a.image != b.image) return a.image < b.image;
    if (a.copy != b.copy) return b.copy;
    return a.row < b.row;
  });
}

template <class Real>
void Worker<Real>::match_image(const std::vector<Detection>& detections, size_t first,
                               size_t last, size_t first_box, size_t last_box,
                               int64_t* matches) {
  const size_t count = last - first, boxes = last_box - first_box;
  iou_.resize(count * boxes);
  for (size_t d = 0; d < count; ++d) {
    const Box found = box(detections[first + d].row);
    for (size_t g = 0; g < boxes; ++g) {
      const int32_t row = candidates_[first_box + g].row;
      iou_[d * boxes + g] =
          intersection_over_union(found, truth_.box(row), truth_.flags[row] & kCrowd);
    }
  }
  for (int64_t range = 0; range < rules_.areas(); ++range) {
    match_range(range, first, count, first_box, boxes);
    if (range > 0 || !matches) continue;
    for (size_t d = 0; d < count; ++d) {
      if (chosen_[d] < 0) continue;
      const bool ignored = skipped_[(first + d) * rules_.areas()] & 1;
      const int32_t row = candidates_[first_box + chosen_[d]].row;
      matches[detections[first + d].row] = ignored ? static_cast<int64_t>(kIgnoredMatch) : row;
    }
  }
}

// Each detection takes the free box that it overlaps most, of equals the later one; boxes that
// need not be found come last. All but crowds are used up.
template <class Real>
void Worker<Real>::match_range(int64_t range, size_t first, size_t count, size_t first_box,
                               size_t boxes) {
  taken_.assign(boxes, 0);
  chosen_.assign(count, -1);
  const auto ignored = [&](size_t g) {
    const Candidate& c = candidates_[first_box + g];
    return c.copy || (truth_.flags[c.row] & kIgnored) ||
           rules_.outside(truth_.areas[c.row], range);
  };
  for (size_t d = 0; d < count; ++d) {
    const double* iou = &iou_[d * boxes];
    if (*std::max_element(iou, iou + boxes) < std::min(rules_.iou_thresholds[0], 1 - 1e-10)) continue;
    Mask& hit = hit_[(first + d) * rules_.areas() + range];
    Mask& skipped = skipped_[(first + d) * rules_.areas() + range];
    for (int64_t step = 0; step < rules_.steps(); ++step) {
      const Mask bit = Mask{1} << step;
      const double least = std::min(rules_.iou_thresholds[step], 1 - 1e-10);
      int64_t best = -1;
      bool best_ignored = true;
      for (size_t g = 0; g < boxes; ++g) {
        if (iou[g] < least || (taken_[g] & bit)) continue;
        const bool spare = ignored(g);
        const bool better = best < 0 || (best_ignored && !spare) ||
                            (best_ignored == spare && iou[g] >= iou[best]);
        if (!better) continue;
        best = static_cast<int64_t>(g);
        best_ignored = spare;
      }
      if (best < 0) continue;
      const uint8_t flags = truth_.flags[candidates_[first_box + best].row];
      if (!(flags & kCrowd)) taken_[best] |= bit;
      if (!(flags & kZeroId)) hit |= bit;
      if (best_ignored) skipped |= bit;
      if (step == 0) chosen_[d] = static_cast<int32_t>(best);
    }
  }
}

// What was not matched is ignored where its own size lies outside the range, or as told.
template <class Real>
void Worker<Real>::excuse(const std::vector<Detection>& detections) {
  const Mask all = rules_.every_step();
  for (size_t d = 0; d < detections.size(); ++d) {
    const int32_t row = detections[d].row;
    const double area = box(row).area();
    const bool exempt = exempt_ && exempt_[row];
    for (int64_t range = 0; range < rules_.areas(); ++range) {
      if (!exempt && !rules_.outside(area, range)) continue;
      const size_t at = d * rules_.areas() + range;
      skipped_[at] |= all & ~hit_[at];
    }
  }
}

template <class Real>
void Worker<Real>::accumulate(const std::vector<Detection>& detections, const Output& output) {
  by_score_.resize(detections.size());
  for (size_t d = 0; d < detections.size(); ++d) by_score_[d] = static_cast<int32_t>(d);
  std::sort(by_score_.begin(), by_score_.end(), [&](int32_t a, int32_t b) {
    if (detections[a].score != detections[b].score) {
      return detections[a].score > detections[b].score;
    }
    return a < b;
  });
  const int64_t curve = rules_.steps() * rules_.recalls();
  for (int64_t range = 0; range < rules_.areas(); ++range) {
    if (output.num_boxes[range] == 0) continue;
    for (int64_t limit = 0; limit < rules_.limits(); ++limit) {
      const int64_t at = range * rules_.limits() + limit;
      accumulate_one(detections, range, limit, output.num_boxes[range],
                     output.precision + at * curve, output.recall + at * rules_.steps(),
                     output.scores ? output.scores + at * curve : nullptr);
    }
  }
}

template <class Real>
void Worker<Real>::accumulate_one(const std::vector<Detection>& detections, int64_t range,
                                  int64_t limit, int64_t num_boxes, double* precision,
                                  double* recall, double* scores) {
  for (auto& found : found_) found.clear();
  const Mask all = rules_.every_step();
  std::vector<int64_t> wrong(rules_.steps(), 0);
  int64_t wrong_at_all = 0, count = 0;
  double first_score = 0;
  for (const int32_t d : by_score_) {
    if (detections[d].rank >= rules_.max_dets[limit]) continue;
    if (count++ == 0) first_score = detections[d].score;
    const size_t at = static_cast<size_t>(d) * rules_.areas() + range;
    const Mask counts = all & ~skipped_[at], hit = hit_[at] & counts;
    if (!hit && counts == all) {
      ++wrong_at_all;
      continue;
    }
    for (Mask rest = counts; rest; rest &= rest - 1) {
      const int step = __builtin_ctz(rest);
      if (hit >> step & 1) {
        found_[step].push_back({wrong_at_all + wrong[step], detections[d].score, 0});
      } else {
        ++wrong[step];
      }
    }
  }
  for (int64_t step = 0; step < rules_.steps(); ++step) {
    recall[step] = count ? static_cast<double>(found_[step].size()) / num_boxes : 0;
    sample(step, num_boxes, count, first_score, precision + step * rules_.recalls(),
           scores ? scores + step * rules_.recalls() : nullptr);
  }
}

// Precision rises only at true positives, so those alone make the curve.
template <class Real>
void Worker<Real>::sample(int64_t step, int64_t num_boxes, int64_t count, double first_score,
                          double* precision, double* scores) {
  auto& found = found_[step];
  const auto total = static_cast<int64_t>(found.size());
  double best = 0;
  for (int64_t i = total - 1; i >= 0; --i) {
    const double right = static_cast<double>(i + 1);
    const double wrong = static_cast<double>(found[i].false_before);
    best = std::max(best, right / (wrong + right + std::numeric_limits<double>::epsilon()));
    found[i].precision = best;
  }
  int64_t place = 0;
  for (int64_t r = 0; r < rules_.recalls(); ++r) {
    const double least = rules_.recall_thresholds[r];
    if (least <= 0) {  // reached by the very first detection
      precision[r] = best;
      if (scores) scores[r] = count ? first_score : 0;
      continue;
    }
    while (place < total && static_cast<double>(place + 1) / num_boxes < least) ++place;
    precision[r] = place < total ? found[place].precision : 0;
    if (scores) scores[r] = place < total ? found[place].score : 0;
  }
}

template class Worker<float>;
template class Worker<double>;

}  // namespace cqdino_d2::evaluation
