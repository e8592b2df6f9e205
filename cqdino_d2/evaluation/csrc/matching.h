// One category's detections against its ground truth; the rules are those of reference.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cqdino_d2::evaluation {

using std::size_t;

using Mask = uint32_t;  // one bit per IoU threshold

enum Flag : uint8_t { kIgnored = 1, kCrowd = 2, kZeroId = 4 };
enum Match : int64_t { kUnmatched = -1, kIgnoredMatch = -2, kNotCounted = -3 };

struct Box {
  double x, y, w, h;
  double area() const { return w * h; }
};

// The axes of the curves.
struct Rules {
  std::vector<double> iou_thresholds, recall_thresholds, area_low, area_high;
  std::vector<int64_t> max_dets;
  int64_t steps() const { return static_cast<int64_t>(iou_thresholds.size()); }
  int64_t recalls() const { return static_cast<int64_t>(recall_thresholds.size()); }
  int64_t areas() const { return static_cast<int64_t>(area_low.size()); }
  int64_t limits() const { return static_cast<int64_t>(max_dets.size()); }
  Mask every_step() const { return steps() == 32 ? ~Mask{0} : (Mask{1} << steps()) - 1; }
  bool outside(double area, int64_t range) const {
    return area < area_low[range] || area > area_high[range];
  }
};

// The ground truth, rows ordered by image; by_category lists the rows of each category.
struct Truth {
  const int32_t* images;
  const double* boxes;
  const double* areas;
  const uint8_t* flags;
  const int64_t* ancestor_offsets;  // nullptr: no tree
  const int64_t* ancestors;
  std::vector<int64_t> offsets;
  std::vector<int32_t> rows;
  int32_t num_images;
  Box box(int32_t row) const {
    const double* b = boxes + 4 * static_cast<int64_t>(row);
    return {b[0], b[1], b[2], b[3]};
  }
};

struct Detection {
  int32_t image;
  int32_t row;
  double score;
  int32_t rank;  // among those of its image and category, best first
};

// A box as one category meets it: its own, or a copy of an ancestor's.
struct Candidate {
  int32_t image;
  int32_t row;
  bool copy;
};

// What became of the detections of all categories; see Outcomes in problem.py.
struct Outcomes {
  double* scores;
  int32_t* ranks;
  int32_t* codes;
  int64_t* num_boxes;  // (K, A)
  int64_t* matches;    // by detection row, or nullptr
};

// Hit and skipped of one area range.
struct Masks {
  Mask hit, skipped;
};

// Matches the detections of category after category; one per thread.
template <class Real>
class Matcher {
 public:
  Matcher(const Rules& rules, const Truth& truth, const Real* boxes, const uint8_t* exempt);

  // Orders and cuts the detections, and writes what became of them from `start` on. Codes of
  // what was matched count from 2^A on and mean rows of `masks` (A to a row).
  void run(int64_t category, int64_t start, std::vector<Detection>& detections,
           std::vector<Masks>& masks, const Outcomes& outcomes);

 private:
  void count_boxes(int64_t category, int64_t* num_boxes) const;
  void order_and_cut(std::vector<Detection>& detections) const;
  void gather_truth(int64_t category, const std::vector<Detection>& detections);
  void match_images(const std::vector<Detection>& detections, int64_t* matches);
  void match_image(const std::vector<Detection>& detections, size_t first, size_t last,
                   size_t first_box, size_t last_box, int64_t* matches);
  void match_range(int64_t range, size_t first, size_t count, size_t first_box, size_t boxes);
  int32_t encode(size_t d, const Detection& detection, std::vector<Masks>& masks) const;
  Box box(int32_t row) const {
    const Real* b = boxes_ + 4 * static_cast<int64_t>(row);
    return {static_cast<double>(b[0]), static_cast<double>(b[1]), static_cast<double>(b[2]),
            static_cast<double>(b[3])};
  }

  const Rules& rules_;
  const Truth& truth_;
  const Real* boxes_;
  const uint8_t* exempt_;
  std::vector<Candidate> candidates_;
  std::vector<int32_t> last_category_;  // of each image: the last category met in it
  std::vector<double> iou_;
  std::vector<Mask> taken_;      // of each box of a pair: the steps at which it is used up
  std::vector<int32_t> chosen_;  // of each detection of a pair: its box, at the first step
  std::vector<Masks> found_;     // (detections, A)
};

// One category's outcomes.
struct Span {
  int64_t count;
  const double* scores;
  const int32_t* ranks;
  const int32_t* codes;
  const Masks* masks;
  const int64_t* num_boxes;  // (A)
};

// Where a category's curves go.
struct Curves {
  double* precision;  // (A, M, T, R); without scores (A, T, R) at the last limit
  double* recall;     // (A, M, T)
  double* scores;     // (A, M, T, R) or nullptr
};

// Turns outcomes into curves; one per thread.
class Accumulator {
 public:
  explicit Accumulator(const Rules& rules) : rules_(rules), found_(rules.steps()) {}
  void run(const Span& span, const Curves& curves);

 private:
  struct TruePositive {
    int64_t false_before;
    double score;
    double precision;
  };

  void run_one(const Span& span, int64_t range, int64_t limit, double* precision, double* recall,
               double* scores);
  void sample(int64_t step, int64_t num_boxes, int64_t count, double first_score,
              double* precision, double* scores);

  const Rules& rules_;
  std::vector<int32_t> by_score_;
  std::vector<std::vector<TruePositive>> found_;  // of each step
};

}  // namespace cqdino_d2::evaluation
