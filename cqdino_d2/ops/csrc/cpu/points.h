// The points of one query and head: where they lie and what they weigh, and the way back.
// No include guard, see variant.h. The loops over points are plain: the compiler vectorises them.

// e^x for x <= 0, within 2 units in the last place; NaN stays NaN.
CQDINO_INLINE float exponential(float x) {
  const float whole = x * 1.44269504f + 12582912.0f;  // the sum's last bits: round(x / ln 2)
  const int32_t power = same_bits<int32_t>(whole) - same_bits<int32_t>(12582912.0f);
  const float n = whole - 12582912.0f;
  const float rest = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float sum = 1 / 5040.0f;
  sum = sum * rest + 1 / 720.0f;
  sum = sum * rest + 1 / 120.0f;
  sum = sum * rest + 1 / 24.0f;
  sum = sum * rest + 1 / 6.0f;
  sum = sum * rest + 0.5f;
  sum = sum * rest + 1.0f;
  sum = sum * rest + 1.0f;
  const float result = sum * same_bits<float>((power + 127) << 23);
  return x < -87.0f ? 0.0f : result;
}
CQDINO_INLINE double exponential(double x) { return __builtin_exp(x); }

template <class F, class T>
CQDINO_INLINE void softmax(const T* logits, int64_t count, F* weights) {
  F largest = -__builtin_inf(), sum = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = widen<F>(logits[i]);
    largest = weights[i] > largest ? weights[i] : largest;
  }
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = exponential(weights[i] - largest);
    sum += weights[i];
  }
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) weights[i] /= sum;
}

// base and scale: a location or offset (x, y) lies at base + scale * (x, y) cells.
template <class F>
CQDINO_INLINE void place_reference(const Sizes& sizes, const F* reference, PointTable<F>& table) {
  for (int64_t level = 0; level < sizes.levels; ++level, reference += sizes.reference_size) {
    const int64_t first = level * sizes.points;
    const F height = F(table.height[first]), width = F(table.width[first]);
    F scale_x = 1, scale_y = 1;
    if (sizes.reference_size == 4) {
      scale_x = reference[2] * (F(0.5) / F(sizes.points)) * width;
      scale_y = reference[3] * (F(0.5) / F(sizes.points)) * height;
    }
    for (int64_t i = first; i < first + sizes.points; ++i) {
      table.base_x[i] = reference[0] * width - F(0.5);
      table.base_y[i] = reference[1] * height - F(0.5);
      table.scale_x[i] = scale_x;
      table.scale_y[i] = scale_y;
    }
  }
}

template <class F, class T>
CQDINO_INLINE void interleave(const F* x, const F* y, int64_t count,
                              T* pairs) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    pairs[2 * i] = narrow<T>(x[i]);
    pairs[2 * i + 1] = narrow<T>(y[i]);
  }
}

template <class F, class T>
CQDINO_INLINE void place_points(const T* places, int64_t count, PointTable<F>& table) {
  const F *base_x = table.base_x, *base_y = table.base_y;
  const F *scale_x = table.scale_x, *scale_y = table.scale_y;
  const F *weight = table.weight;
  const int32_t *height = table.height, *width = table.width;
  const int64_t* start = table.start;
  int64_t* token = table.token;
  int32_t* corners = table.corners;
  F *down = table.down, *right = table.right;
  F *outside = table.outside;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const F x = base_x[i] + scale_x[i] * widen<F>(places[2 * i]);
    const F y = base_y[i] + scale_y[i] * widen<F>(places[2 * i + 1]);
    const Cell<F> cell = locate(x, y, height[i], width[i]);
    token[i] = start[i] + int64_t(cell.row) * width[i] + cell.column;
    corners[i] = cell.corners;
    down[i] = cell.down;
    right[i] = cell.right;
    outside[i] = weight[i] * outside_value(x, y);
  }
  F *top_left = table.top_left, *top_right = table.top_right;
  F *bottom_left = table.bottom_left, *bottom_right = table.bottom_right;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const F lower = weight[i] * down[i], upper = weight[i] - lower;
    top_right[i] = upper * right[i];
    top_left[i] = upper - top_right[i];
    bottom_right[i] = lower * right[i];
    bottom_left[i] = lower - bottom_right[i];
  }
}

// Fills the table for the points of query `query` (counted over the batch) and head `head`.
template <class T, class F>
CQDINO_INLINE void prepare(const Problem<T, F>& problem, int64_t query, int64_t head,
                           PointTable<F>& table) {
  const Sizes& sizes = problem.sizes;
  const int64_t count = sizes.levels * sizes.points;
  const int64_t first = (query * sizes.heads + head) * count;
  if (problem.references != nullptr) {
    place_reference(sizes, problem.references + query * sizes.levels * sizes.reference_size,
                    table);
    softmax(problem.weights + first, count, table.weight);
    place_points(problem.offsets + 2 * first, count, table);
  } else {
    const T* weights = problem.weights + first;
    F* weight = table.weight;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) weight[i] = widen<F>(weights[i]);
    place_points(problem.locations + 2 * first, count, table);
  }
}
