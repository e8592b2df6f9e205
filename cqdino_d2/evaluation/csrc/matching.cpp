#include "matching.h"

#include <algorithm>

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
Matcher<Real>::Matcher(const Rules& rules, const Truth& truth, const Real* boxes,
                       const uint8_t* exempt)
    : rules_(rules),
      truth_(truth),
      boxes_(boxes),
      exempt_(exempt),
      last_category_(truth.num_images, -1) {}

template <class Real>
void Matcher<Real>::run(int64_t category, int64_t start, std::vector<Detection>& detections,
                        std::vector<Masks>& masks, const Outcomes& outcomes) {
  count_boxes(category, outcomes.num_boxes + category * rules_.areas());
  order_and_cut(detections);
  gather_truth(category, detections);
  found_.assign(detections.size() * rules_.areas(), {0, 0});
  if (outcomes.matches) {
    for (const Detection& d : detections) {
      outcomes.matches[d.row] = exempt_ && exempt_[d.row] ? kIgnoredMatch : kUnmatched;
    }
  }
  match_images(detections, outcomes.matches);
  for (size_t d = 0; d < detections.size(); ++d) {
    outcomes.scores[start + d] = detections[d].score;
    outcomes.ranks[start + d] = detections[d].rank;
    outcomes.codes[start + d] = encode(d, detections[d], masks);
  }
}

template <class Real>
void Matcher<Real>::count_boxes(int64_t category, int64_t* num_boxes) const {
  for (int64_t i = truth_.offsets[category]; i < truth_.offsets[category + 1]; ++i) {
    const int32_t row = truth_.rows[i];
    if (truth_.flags[row] & kIgnored) continue;
    for (int64_t range = 0; range < rules_.areas(); ++range) {
      num_boxes[range] += !rules_.outside(truth_.areas[row], range);
    }
  }
}

// By image, then best first, then as in the file; at most max_dets of an image stay.
template <class Real>
void Matcher<Real>::order_and_cut(std::vector<Detection>& detections) const {
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
void Matcher<Real>::gather_truth(int64_t category, const std::vector<Detection>& detections) {
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
void Matcher<Real>::match_images(const std::vector<Detection>& detections, int64_t* matches) {
  size_t first = 0, first_box = 0;
  while (first < detections.size() && first_box < candidates_.size()) {
    const int32_t image = detections[first].image;
    size_t last = first;
    while (last < detections.size() && detections[last].image == image) ++last;
    while (first_box < candidates_.size() && candidates_[first_box].image < image) ++first_box;
    size_t last_box = first_box;
    while (last_box < candidates_.size() && candidates_[last_box].image == image) ++last_box;
    if (last_box > first_box) match_image(detections, first, last, first_box, last_box, matches);
    first = last;
    first_box = last_box;
  }
}

template <class Real>
void Matcher<Real>::match_image(const std::vector<Detection>& detections, size_t first,
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
      const bool ignored = found_[(first + d) * rules_.areas()].skipped & 1;
      const int32_t row = candidates_[first_box + chosen_[d]].row;
      matches[detections[first + d].row] = ignored ? static_cast<int64_t>(kIgnoredMatch) : row;
    }
  }
}

// Each detection takes the free box that it overlaps most, of equals the later one; boxes that
// need not be found come last. All but crowds are used up.
template <class Real>
void Matcher<Real>::match_range(int64_t range, size_t first, size_t count, size_t first_box,
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
    Masks& found = found_[(first + d) * rules_.areas() + range];
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
      if (!(flags & kZeroId)) found.hit |= bit;
      if (best_ignored) found.skipped |= bit;
      if (step == 0) chosen_[d] = static_cast<int32_t>(best);
    }
  }
}

// What was not matched is ignored where its own size lies outside the range, or as told; where
// nothing was matched in any range, these ranges as bits are the code.
template <class Real>
int32_t Matcher<Real>::encode(size_t d, const Detection& detection,
                              std::vector<Masks>& masks) const {
  const int64_t ranges = rules_.areas();
  const double area = box(detection.row).area();
  const bool exempt = exempt_ && exempt_[detection.row];
  int32_t excused = 0;
  bool matched = false;
  for (int64_t range = 0; range < ranges; ++range) {
    const Masks& found = found_[d * ranges + range];
    matched |= found.hit || found.skipped;
    if (exempt || rules_.outside(area, range)) excused |= 1 << range;
  }
  if (!matched) return excused;
  const auto code = static_cast<int32_t>(masks.size() / ranges) + (1 << ranges);
  for (int64_t range = 0; range < ranges; ++range) {
    Masks found = found_[d * ranges + range];
    if (excused >> range & 1) found.skipped |= rules_.every_step() & ~found.hit;
    masks.push_back(found);
  }
  return code;
}

template class Matcher<float>;
template class Matcher<double>;

}  // namespace cqdino_d2::evaluation
