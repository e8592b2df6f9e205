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

// The four corners of a point: token of the top left one, and which of them are inside.
template <class F>
CQDINO_INLINE int64_t top_left_token(const PointTable<F>& table, int64_t i) {
  return table.start[i] + int64_t(table.row[i]) * table.width[i] + table.column[i];
}

// Adds up the samples of a block of channels, whose value at token 0 is `value`.
template <class T, class F, int SIZE>
CQDINO_INLINE void gather(const T* value, int64_t stride, int64_t count,
                          const PointTable<F>& table, T* output) {
  using Block = Channels<T, F, SIZE>;
  typename Block::V sum[Block::BLOCKS] = {};
  for (int64_t i = 0; i < count; ++i) {
    const int32_t corners = table.corners[i];
    const int64_t top = top_left_token(table, i) * stride;
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

// Asks for all corners at once: more than a processor looks ahead by itself. (No gain in gather.)
template <class T, class F>
CQDINO_INLINE void prefetch(const T* value, int64_t stride, int64_t channels, int64_t count,
                            const PointTable<F>& table) {
  constexpr int64_t LINE = 64 / sizeof(T);
  for (int64_t i = 0; i < count; ++i) {
    if (table.corners[i] == 0) continue;
    const T* top = value + top_left_token(table, i) * stride;
    const T* bottom = top + table.width[i] * stride;
    for (int64_t c = 0; c < channels; c += LINE) {
      __builtin_prefetch(top + c);
      __builtin_prefetch(top + stride + c);
      __builtin_prefetch(bottom + c);
      __builtin_prefetch(bottom + stride + c);
    }
  }
}

// The way back of gather: adds to the sums of grad_value and to the table's products.
template <class T, class F, int SIZE>
CQDINO_INLINE void scatter(const T* value, int64_t stride, int64_t count, const T* grad_output,
                           F* sums, int64_t sums_stride, PointTable<F>& table) {
  using Block = Channels<T, F, SIZE>;
  typename Block::V grad[Block::BLOCKS];
  for (int block = 0; block < Block::BLOCKS; ++block) {
    grad[block] = Stored<T, F, Block::N>::read(grad_output + block * Block::N);
  }
  for (int64_t i = 0; i < count; ++i) {
    const int32_t corners = table.corners[i];
    if (corners == 0) continue;
    const int64_t token = top_left_token(table, i);
    const auto corner = [&](int k, F weight, int64_t at) __attribute__((always_inline)) {
      table.product[k][i] += total<F, Block::N>(Block::product(grad, value + at * stride));
      Block::scatter(sums + at * sums_stride, weight, grad);
    };
    if (corners & TOP_LEFT) corner(0, table.top_left[i], token);
    if (corners & TOP_RIGHT) corner(1, table.top_right[i], token + 1);
    if (corners & BOTTOM_LEFT) corner(2, table.bottom_left[i], token + table.width[i]);
    if (corners & BOTTOM_RIGHT) corner(3, table.bottom_right[i], token + table.width[i] + 1);
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
void forward(const Problem<T, F>& problem, int64_t begin, int64_t end, PointTable<F>& table) {
  const Sizes& sizes = problem.sizes;
  const int64_t count = sizes.levels * sizes.points;
  const int64_t stride = sizes.heads * sizes.channels;
  for (int64_t query = begin; query < end; ++query) {
    const T* image = problem.value + query / sizes.queries * sizes.tokens * stride;
    for (int64_t head = 0; head < sizes.heads; ++head) {
      prepare(problem, query, head, table);
      const T* value = image + head * sizes.channels;
      T* output = problem.output + query * stride + head * sizes.channels;
#define CQDINO_GATHER(SIZE) gather<T, F, SIZE>(value + c, stride, count, table, output + c)
      CQDINO_OVER_CHANNELS(sizes.channels, CQDINO_GATHER)
#undef CQDINO_GATHER
    }
  }
}

// From the products to the gradients of weights and places.
template <class T, class F>
CQDINO_INLINE void finish(const Problem<T, F>& problem, int64_t first, int64_t count,
                          PointTable<F>& table) {
  const F *right = table.right, *down = table.down;
  const F *weight = table.weight;
  const F *scale_x = table.scale_x, *scale_y = table.scale_y;
  const F *top_left = table.product[0], *top_right = table.product[1];
  const F *bottom_left = table.product[2], *bottom_right = table.product[3];
  F *grad_weight = table.grad_weight;
  F *grad_x = table.grad_x, *grad_y = table.grad_y;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const F along_top = top_right[i] - top_left[i];
    const F along_bottom = bottom_right[i] - bottom_left[i];
    const F top = top_left[i] + right[i] * along_top;
    const F bottom = bottom_left[i] + right[i] * along_bottom;
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
void backward(const Problem<T, F>& problem, int64_t image, int64_t first_head, int64_t last_head,
              F* sums, int64_t sums_stride, PointTable<F>& table) {
  const Sizes& sizes = problem.sizes;
  const int64_t count = sizes.levels * sizes.points;
  const int64_t stride = sizes.heads * sizes.channels;
  const T* image_value = problem.value + image * sizes.tokens * stride;
  for (int64_t query = image * sizes.queries; query < (image + 1) * sizes.queries; ++query) {
    for (int64_t head = first_head; head < last_head; ++head) {
      prepare(problem, query, head, table);
      for (int k = 0; k < 4; ++k) {
        F* product = table.product[k];
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) {
          product[i] = table.corners[i] ? F(0) : table.outside[i];
        }
      }
      const T* value = image_value + head * sizes.channels;
      const T* grad_output = problem.grad_output + query * stride + head * sizes.channels;
      F* head_sums = sums + (head - first_head) * sizes.channels;
      prefetch(value, stride, sizes.channels, count, table);
      prefetch(head_sums, sums_stride, sizes.channels, count, table);
#define CQDINO_SCATTER(SIZE)                                                        \
  scatter<T, F, SIZE>(value + c, stride, count, grad_output + c, head_sums + c, \
                      sums_stride, table)
      CQDINO_OVER_CHANNELS(sizes.channels, CQDINO_SCATTER)
#undef CQDINO_SCATTER
      finish(problem, (query * sizes.heads + head) * count, count, table);
    }
  }
}

template <class T, class F>
void round(const F* sums, int64_t count, T* rounded) {
#define CQDINO_ROUND(SIZE) Channels<T, F, SIZE>::round(sums + c, rounded + c)
  CQDINO_OVER_CHANNELS(count, CQDINO_ROUND)
#undef CQDINO_ROUND
}
#undef CQDINO_OVER_CHANNELS

template <class T, class F>
Kernels<T, F> kernels() {
  return {forward<T, F>, backward<T, F>, round<T, F>};
}
template Kernels<float, float> kernels();
template Kernels<double, double> kernels();
template Kernels<HalfBits, float> kernels();
template Kernels<BFloat16Bits, float> kernels();
