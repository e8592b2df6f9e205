// Records of a COCO results file, straight into columns.
#pragma once

#include <cstdint>
#include <vector>

namespace cqdino_d2::evaluation {

struct ResultColumns {
  std::vector<int64_t> image_ids, category_ids;
  std::vector<double> boxes, scores;  // boxes: four numbers each
};

// Reads records with commas between them; false where the text is something else.
bool read_records(const char* begin, const char* end, ResultColumns& columns);

}  // namespace cqdino_d2::evaluation
