// The kernels. No include guard and no includes of the standard library: each variant_*.cpp
// includes this in its own namespace, and after having set its instruction set.
#include "lanes.h"
#include "points.h"

// A block of SIZE channels: BLOCKS vectors of N numbers.
template <class T, class F, int SIZE>
struct Channels {
  static constexpr int FULL = VECTOR_BYTES / sizeof(F);
  static constexpr int N = SIZE < FULL ? SIZE : FULL;
  static constexpr int BLOCKS = SIZE / N;
  using V = Vector<F, N>;

  static CQDINO_INLINE void add(V (&sum)[BLOCKS], F weight, const T* value) {
    for (int i = 0; i < BLOCKS; ++i) sum[i] += Stored<T, F, N>::read(value + i * N) * weight;
  }

  // sums += weight * grad
  static CQDINO_INLINE void scatter(F* sums, F weight, const V (&grad)[BLOCKS]) {
    for (int i = 0; i < BLOCKS; ++i) {
      store(sums + i * N, load<V>(sums + i * N) + grad[i] * weight);
    }
  }

  static CQDINO_INLINE void round(const F* from, T* to) {
    for (int i = 0; i < BLOCKS; ++i) Stored<T, F, N>::write(to + i * N, load<V>(from + i * N));
  }

  static CQDINO_INLINE V product(const V (&grad)[BLOCKS], const T* value) {
    V sum = grad[0] * Stored<T, F, N>::read(value);
    for (int i = 1; i < BLOCKS; ++i) sum += grad[i] * Stored<T, F, N>::read(value + i * N);
    return sum;
  }
};

// The sum of a vector's numbers, in a fixed tree.
template <class F, int N>
CQDINO_INLINE F total(Vector<F, N> lanes) {
  if constexpr (N == 1) {
    return lanes;
  } else {
    Vector<F, N / 2> halves[2];
    __builtin_memcpy(halves, &lanes, sizeof(lanes));
    return total<F, N / 2>(halves[0] + halves[1]);
  }
}

// Adds the totals of four vectors to four numbers.
template <class F, int N>
CQDINO_INLINE void add_totals(const Vector<F, N> (&lanes)[4], F* sums) {
  if constexpr (sizeof(lanes[0]) == VECTOR_BYTES && sizeof(F) == 4 && VECTOR_BYTES > 16) {
    using Quad = Vector<F, 4>;
    const auto totals = four_totals(lanes[0], lanes[1], lanes[2], lanes[3]);
    store(sums, load<Quad>(sums) + (Quad)totals);
  } else {
    for (int k = 0; k < 4; ++k) sums[k] += total<F, N>(lanes[k]);
  }
}

// Adds up the samples of a block of channels, whose value at token 0 is `value`.
template <class T, class F, int SIZE>
CQDINO_INLINE void gather(const T* value, int64_t stride, int64_t count,
                          const PointTable<F>& table, T* output) {
  using Block = Channels<T, F, SIZE>;
  typename Block::V sum[Block::BLOCKS] = {};
  for (int64_t i = 0; i < count; ++i) {
    const int32_t corners = table.corners[i];
    const int64_t top = table.token[i] * stride;
    const int64_t bottom = top + table.width[i] * stride;
    if (__builtin_expect(corners == ALL, 1)) {
      Block::add(sum, table.top_left[i], value + top);
      Block::add(sum, table.top_right[i], value + top + stride);
      Block::add(sum, table.bottom_left[i], value + bottom);
      Block::add(sum, table.bottom_right[i], value + bottom + stride);
    } else if (corners == 0) {
      for (int block = 0; block < Block::BLOCKS; ++block) sum[block] += table.outside[i];
    } else {
      if (corners & TOP_LEFT) Block::add(sum, table.top_left[i], value + top);
      if (corners & TOP_RIGHT) Block::add(sum, table.top_right[i], value + top + stride);
      if (corners & BOTTOM_LEFT) Block::add(sum, table.bottom_left[i], value + bottom);
      if (corners & BOTTOM_RIGHT) Block::add(sum, table.bottom_right[i], value + bottom + stride);
    }
  }
  for (int block = 0; block < Block::BLOCKS; ++block) {
    Stored<T, F, Block::N>::write(output + block * Block::N, sum[block]);
  }
}

// Asks for `numbers` numbers that will be read or written soon.
template <class T>
CQDINO_INLINE void prefetch(const T* row, int64_t numbers) {
  constexpr int64_t LINE = 64 / sizeof(T);
  for (int64_t c = 0; c < numbers; c += LINE) __builtin_prefetch(row + c);
}

// The rows of one head lie far apart, where no processor looks ahead by itself.
constexpr int64_t QUERIES_AHEAD = 6;

// Asks for what the tensors hold for a head of a query that comes soon.
template <class T, class F>
CQDINO_INLINE void prefetch_query(const Problem<T, F>& problem, const Part& part, int64_t query) {
  const Sizes& sizes = problem.sizes;
  const int64_t count = sizes.levels * sizes.points;
  const int64_t next = query + QUERIES_AHEAD < part.last ? query + QUERIES_AHEAD : part.last - 1;
  const int64_t row = (part.image * sizes.queries + next) * sizes.heads + part.head;
  prefetch(problem.weights + row * count, count);
  if (problem.references != nullptr) {
    prefetch(problem.offsets + 2 * row * count, 2 * count);
  } else {
    prefetch(problem.locations + 2 * row * count, 2 * count);
  }
  if (problem.grad_output != nullptr) {
    prefetch(problem.grad_output + row * sizes.channels, sizes.channels);
  }
}

// Asks for all corners at once: more than a processor looks ahead by itself. (No gain in gather.)
template <class T, class F>
CQDINO_INLINE void prefetch_corners(const T* value, int64_t stride, int64_t channels,
                                    int64_t count, const PointTable<F>& table) {
  for (int64_t i = 0; i < count; ++i) {
    if (table.corners[i] == 0) continue;
    const T* top = value + table.token[i] * stride;
    const T* bottom = top + table.width[i] * stride;
    prefetch(top, channels);
    prefetch(top + stride, channels);
    prefetch(bottom, channels);
    prefetch(bottom + stride, channels);
  }
}

// The way back of gather: adds to the sums of the values' gradients and to the table's products.
template <class T, class F, int SIZE>
CQDINO_INLINE void scatter(const T* value, int64_t stride, int64_t count, const T* grad_output,
                           F* sums, int64_t sums_stride, PointTable<F>& table) {
  using Block = Channels<T, F, SIZE>;
  using V = typename Block::V;
  V grad[Block::BLOCKS];
  for (int block = 0; block < Block::BLOCKS; ++block) {
    grad[block] = Stored<T, F, Block::N>::read(grad_output + block * Block::N);
  }
  for (int64_t i = 0; i < count; ++i) {
    const int32_t corners = table.corners[i];
    if (corners == 0) continue;
    const int64_t top = table.token[i], bottom = top + table.width[i];
    F* product = table.product + 4 * i;
    if (__builtin_expect(corners == ALL, 1)) {
      const V products[4] = {Block::product(grad, value + top * stride),
                             Block::product(grad, value + (top + 1) * stride),
                             Block::product(grad, value + bottom * stride),
                             Block::product(grad, value + (bottom + 1) * stride)};
      add_totals<F, Block::N>(products, product);
      Block::scatter(sums + top * sums_stride, table.top_left[i], grad);
      Block::scatter(sums + (top + 1) * sums_stride, table.top_right[i], grad);
      Block::scatter(sums + bottom * sums_stride, table.bottom_left[i], grad);
      Block::scatter(sums + (bottom + 1) * sums_stride, table.bottom_right[i], grad);
      continue;
    }
    const auto corner = [&](int k, F weight, int64_t at) __attribute__((always_inline)) {
      product[k] += total<F, Block::N>(Block::product(grad, value + at * stride));
      Block::scatter(sums + at * sums_stride, weight, grad);
    };
    if (corners & TOP_LEFT) corner(0, table.top_left[i], top);
    if (corners & TOP_RIGHT) corner(1, table.top_right[i], top + 1);
    if (corners & BOTTOM_LEFT) corner(2, table.bottom_left[i], bottom);
    if (corners & BOTTOM_RIGHT) corner(3, table.bottom_right[i], bottom + 1);
  }
}

// CALL(size) for all channels from the first to the last, in blocks as large as can be; `c` is the
// first channel of the block.
#define CQDINO_OVER_CHANNELS(channels, CALL)          \
  {                                                   \
    int64_t c = 0;                                    \
    for (; c + 32 <= channels; c += 32) CALL(32);     \
    for (; c + 16 <= channels; c += 16) CALL(16);     \
    for (; c + 4 <= channels; c += 4) CALL(4);        \
    for (; c < channels; ++c) CALL(1);                \
  }

template <class T, class F>
void forward(const Problem<T, F>& problem, const Part& part, const T* value, int64_t stride,
             PointTable<F>& table) {
  const Sizes& sizes = problem.sizes;
  const int64_t count = sizes.levels * sizes.points;
  for (int64_t i = part.first; i < part.last; ++i) {
    prefetch_query(problem, part, i);
    const int64_t query = part.image * sizes.queries + i;
    prepare(problem, query, part.head, table);
    T* output = problem.output + (query * sizes.heads + part.head) * sizes.channels;
#define CQDINO_GATHER(SIZE) gather<T, F, SIZE>(value + c, stride, count, table, output + c)
    CQDINO_OVER_CHANNELS(sizes.channels, CQDINO_GATHER)
#undef CQDINO_GATHER
  }
}

// What outside points are worth is not added up by scatter.
template <class F>
CQDINO_INLINE void clear_products(int64_t count, PointTable<F>& table) {
  F* product = table.product;
  const F* outside = table.outside;
  const int32_t* corners = table.corners;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const F worth = outside[i], cleared = corners[i] ? F(0) : worth;
    for (int k = 0; k < 4; ++k) product[4 * i + k] = cleared;
  }
}

// From the products to the gradients of weights and places.
template <class T, class F>
CQDINO_INLINE void finish(const Problem<T, F>& problem, int64_t first, int64_t count,
                          PointTable<F>& table) {
  const F *right = table.right, *down = table.down;
  const F *weight = table.weight;
  const F *scale_x = table.scale_x, *scale_y = table.scale_y;
  const F* product = table.product;
  F *grad_weight = table.grad_weight;
  F *grad_x = table.grad_x, *grad_y = table.grad_y;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const F top_left = product[4 * i], top_right = product[4 * i + 1];
    const F bottom_left = product[4 * i + 2], bottom_right = product[4 * i + 3];
    const F along_top = top_right - top_left;
    const F along_bottom = bottom_right - bottom_left;
    const F top = top_left + right[i] * along_top;
    const F bottom = bottom_left + right[i] * along_bottom;
    grad_weight[i] = top + down[i] * (bottom - top);
    grad_x[i] = weight[i] * scale_x[i] * (along_top + down[i] * (along_bottom - along_top));
    grad_y[i] = weight[i] * scale_y[i] * (bottom - top);
  }
  if (problem.references != nullptr) {
    F mean = 0;  // the gradient of the softmax
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < count; ++i) mean += weight[i] * grad_weight[i];
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) grad_weight[i] = weight[i] * (grad_weight[i] - mean);
    interleave(grad_x, grad_y, count, problem.grad_offsets + 2 * first);
  } else {
    interleave(grad_x, grad_y, count, problem.grad_locations + 2 * first);
  }
  T* to = problem.grad_weights + first;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = narrow<T>(grad_weight[i]);
}

template <class T, class F>
void backward(const Problem<T, F>& problem, const Part& part, const T* value, int64_t stride,
              F* sums, PointTable<F>& table) {
  const Sizes& sizes = problem.sizes;
  const int64_t count = sizes.levels * sizes.points;
  for (int64_t i = part.first; i < part.last; ++i) {
    prefetch_query(problem, part, i);
    const int64_t query = part.image * sizes.queries + i;
    prepare(problem, query, part.head, table);
    clear_products(count, table);
    const int64_t row = query * sizes.heads + part.head;
    const T* grad_output = problem.grad_output + row * sizes.channels;
    prefetch_corners(value, stride, sizes.channels, count, table);
    prefetch_corners(sums, sizes.channels, sizes.channels, count, table);
#define CQDINO_SCATTER(SIZE)                                                                   \
  scatter<T, F, SIZE>(value + c, stride, count, grad_output + c, sums + c, sizes.channels, table)
    CQDINO_OVER_CHANNELS(sizes.channels, CQDINO_SCATTER)
#undef CQDINO_SCATTER
    finish(problem, row * count, count, table);
  }
}

template <class T, class F>
void pack(const Sizes& sizes, const T* value, int64_t stride, T* packed) {
  for (int64_t token = 0; token < sizes.tokens; ++token) {
    const T* from = value + token * stride;
    T* to = packed + token * sizes.channels;
#define CQDINO_COPY(SIZE) __builtin_memcpy(to + c, from + c, SIZE * sizeof(T))
    CQDINO_OVER_CHANNELS(sizes.channels, CQDINO_COPY)
#undef CQDINO_COPY
  }
}

template <class T, class F>
void unpack(const Sizes& sizes, const F* sums, T* value, int64_t stride) {
  for (int64_t token = 0; token < sizes.tokens; ++token) {
    const F* from = sums + token * sizes.channels;
    T* to = value + token * stride;
#define CQDINO_ROUND(SIZE) Channels<T, F, SIZE>::round(from + c, to + c)
    CQDINO_OVER_CHANNELS(sizes.channels, CQDINO_ROUND)
#undef CQDINO_ROUND
  }
}
#undef CQDINO_OVER_CHANNELS

template <class T, class F>
Kernels<T, F> kernels() {
  return {forward<T, F>, backward<T, F>, pack<T, F>, unpack<T, F>};
}
template Kernels<float, float> kernels();
template Kernels<double, double> kernels();
template Kernels<HalfBits, float> kernels();
template Kernels<BFloat16Bits, float> kernels();
