#include "results_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

namespace cqdino_d2::evaluation {

namespace {

constexpr std::array<double, 19> kPowers = {1,    1e1,  1e2,  1e3,  1e4,  1e5,  1e6,
                                             1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                             1e14, 1e15, 1e16, 1e17, 1e18};
constexpr int64_t kShortRecord = 80;  // bytes, to guess how many records there are

// Reads records with commas between them. Every function returns false where the text is not
// what it reads; the caller then leaves the text to Python, whose parser says what is wrong.
class Reader {
 public:
  Reader(const char* begin, const char* end) : at_(begin), end_(end) {}

  bool records(ResultColumns& columns) {
    skip_space();
    if (at_ == end_) return true;
    do {
      if (!record(columns)) return false;
    } while (take(','));
    return at_ == end_;
  }

 private:
  enum Seen : unsigned { kImage = 1, kCategory = 2, kBox = 4, kScore = 8, kAll = 15 };

  bool record(ResultColumns& columns) {
    if (!take('{')) return false;
    unsigned seen = 0;
    double box[4], score = 0;
    int64_t image_id = 0, category_id = 0;
    do {
      std::string_view key;
      if (!string(key) || !take(':')) return false;
      if (key == "image_id") {
        if (!integer(image_id)) return false;
        seen |= kImage;
      } else if (key == "category_id") {
        if (!integer(category_id)) return false;
        seen |= kCategory;
      } else if (key == "bbox") {
        if (!four(box)) return false;
        seen |= kBox;
      } else if (key == "score") {
        if (!number(score)) return false;
        seen |= kScore;
      } else if (!skip_value(0)) {
        return false;
      }
    } while (take(','));
    if (!take('}') || seen != kAll) return false;
    columns.image_ids.push_back(image_id);
    columns.category_ids.push_back(category_id);
    columns.boxes.insert(columns.boxes.end(), box, box + 4);
    columns.scores.push_back(score);
    return true;
  }

  void skip_space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  // The character, with the space around it.
  bool take(char wanted) {
    skip_space();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    skip_space();
    return true;
  }

  bool string(std::string_view& value) {
    if (at_ == end_ || *at_ != '"') return false;
    const char* begin = ++at_;
    while (at_ < end_ && *at_ != '"') {
      if (static_cast<unsigned char>(*at_) < 0x20) return false;
      if (*at_ == '\\' && ++at_ == end_) return false;
      ++at_;
    }
    if (at_ == end_) return false;
    value = {begin, static_cast<size_t>(at_ - begin)};
    ++at_;
    return true;
  }

  // A number as JSON writes it, correctly rounded as Python does. Most have few enough digits to
  // be an exact integer times or over an exact power of ten: one rounding (Clinger 1990).
  bool number(double& value) {
    const char* begin = at_;
    const char* p = at_;
    const bool negative = p < end_ && *p == '-';
    if (negative) ++p;
    const char* const first = p;
    uint64_t digits = 0;
    const auto read_digits = [&] {
      const char* from = p;
      for (; p < end_ && *p >= '0' && *p <= '9'; ++p) digits = 10 * digits + (*p - '0');
      return p - from;
    };
    const auto whole = read_digits();
    if (whole == 0 || (whole > 1 && *first == '0')) return false;  // NaN is left to Python
    int64_t decimals = 0;
    if (p < end_ && *p == '.') {
      ++p;
      decimals = read_digits();
      if (decimals == 0) return false;
    }
    const bool exponent = p < end_ && (*p == 'e' || *p == 'E');
    constexpr uint64_t kExact = uint64_t{1} << 53;
    if (!exponent && whole + decimals <= 18 && digits <= kExact && decimals <= 18) {
      value = static_cast<double>(digits) / kPowers[decimals];
      if (negative) value = -value;
      at_ = p;
      return true;
    }
    const auto [after, error] = std::from_chars(begin, end_, value);
    if (error != std::errc() || after[-1] == '.') return false;
    at_ = after;
    return true;
  }

  bool integer(int64_t& value) {
    const char* begin = at_;
    const auto [after, error] = std::from_chars(at_, end_, value);
    if (error == std::errc() &&
        (after == end_ || !std::strchr("0123456789.eE", *after) || *after == '\0') &&
        !(*begin == '0' && after - begin > 1)) {
      at_ = after;
      return true;
    }
    double real;
    if (!number(real) || real != std::trunc(real) || std::abs(real) > 9007199254740992.0) {
      return false;
    }
    value = static_cast<int64_t>(real);
    return true;
  }

  bool four(double* values) {
    if (!take('[')) return false;
    for (int i = 0; i < 4; ++i) {
      if (i > 0 && !take(',')) return false;
      if (!number(values[i])) return false;
    }
    return take(']');
  }

  // Any value of a key that is of no interest, such as a mask.
  bool skip_value(int depth) {
    if (at_ == end_ || depth > 64) return false;
    std::string_view text;
    double real;
    if (*at_ == '"') return string(text);
    if (*at_ == '[' || *at_ == '{') return skip_container(depth);
    for (const std::string_view word : {"true", "false", "null"}) {
      if (static_cast<size_t>(end_ - at_) < word.size()) continue;
      if (std::memcmp(at_, word.data(), word.size()) != 0) continue;
      at_ += word.size();
      return true;
    }
    return number(real);
  }

  bool skip_container(int depth) {
    const bool object = *at_ == '{';
    const char closing = object ? '}' : ']';
    take(*at_);
    if (take(closing)) return true;
    do {
      std::string_view key;
      if (object && (!string(key) || !take(':'))) return false;
      if (!skip_value(depth + 1)) return false;
    } while (take(','));
    return take(closing);
  }

  const char* at_;
  const char* end_;
};

}  // namespace

bool read_records(const char* begin, const char* end, ResultColumns& columns) {
  const size_t records = (end - begin) / kShortRecord;
  columns.image_ids.reserve(records);
  columns.category_ids.reserve(records);
  columns.boxes.reserve(4 * records);
  columns.scores.reserve(records);
  return Reader(begin, end).records(columns);
}

}  // namespace cqdino_d2::evaluation
