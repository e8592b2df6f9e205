#include <algorithm>
#include <limits>

#include "matching.h"

namespace cqdino_d2::evaluation {

void Accumulator::run(const Span& span, const Curves& curves) {
  by_score_.resize(span.count);
  for (int64_t d = 0; d < span.count; ++d) by_score_[d] = static_cast<int32_t>(d);
  std::sort(by_score_.begin(), by_score_.end(), [&](int32_t a, int32_t b) {
    return span.scores[a] != span.scores[b] ? span.scores[a] > span.scores[b] : a < b;
  });
  const int64_t curve = rules_.steps() * rules_.recalls();
  for (int64_t range = 0; range < rules_.areas(); ++range) {
    if (span.num_boxes[range] == 0) continue;
    for (int64_t limit = 0; limit < rules_.limits(); ++limit) {
      // Only the last limit stays where all go to the same place.
      const int64_t at = curves.scores ? range * rules_.limits() + limit : range;
      run_one(span, range, limit, curves.precision + at * curve,
              curves.recall + (range * rules_.limits() + limit) * rules_.steps(),
              curves.scores ? curves.scores + at * curve : nullptr);
    }
  }
}

void Accumulator::run_one(const Span& span, int64_t range, int64_t limit, double* precision,
                          double* recall, double* scores) {
  for (auto& found : found_) found.clear();
  const Mask all = rules_.every_step();
  std::vector<int64_t> wrong(rules_.steps(), 0);
  int64_t wrong_at_all = 0, count = 0;
  double first_score = 0;
  for (const int32_t d : by_score_) {
    if (span.ranks[d] >= rules_.max_dets[limit]) continue;
    if (count++ == 0) first_score = span.scores[d];
    const Masks masks = span.masks[span.codes[d] * rules_.areas() + range];
    const Mask counts = all & ~masks.skipped, hit = masks.hit & counts;
    if (!hit && counts == all) {
      ++wrong_at_all;
      continue;
    }
    for (Mask rest = counts; rest; rest &= rest - 1) {
      const int step = __builtin_ctz(rest);
      if (hit >> step & 1) {
        found_[step].push_back({wrong_at_all + wrong[step], span.scores[d], 0});
      } else {
        ++wrong[step];
      }
    }
  }
  const int64_t num_boxes = span.num_boxes[range];
  for (int64_t step = 0; step < rules_.steps(); ++step) {
    recall[step] = count ? static_cast<double>(found_[step].size()) / num_boxes : 0;
    sample(step, num_boxes, count, first_score, precision + step * rules_.recalls(),
           scores ? scores + step * rules_.recalls() : nullptr);
  }
}

// Precision rises only at true positives, so those alone make the curve.
void Accumulator::sample(int64_t step, int64_t num_boxes, int64_t count, double first_score,
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

}  // namespace cqdino_d2::evaluation
