// The kernels. A group of LANES threads of one warp works on one query and head (a "row"): first
// each lane looks where some of the row's points lie and notes it in shared memory, then each lane
// goes over all points with its VECTOR channels. Nothing but warps is synchronised.
// tests/ops/test_cuda_on_host.py runs this file on the CPU, one thread per lane.
#pragma once

#include <cstdint>

#include "../problem.h"
#include "../sampling.h"
#include "memory.cuh"

namespace cqdino {
namespace cuda {

constexpr unsigned WHOLE_WARP = 0xffffffffu;

// One number for each corner, in the order of the bits of Cell::corners.
template <class F>
struct alignas(16) Corners {
  F of[4];
};

// What the group notes about its points, in shared memory.
template <class F>
struct Notes {
  Corners<F>* weight;   // the point's own included
  Corners<F>* product;  // backward: of grad_output with the corners' values
  int64_t* place;       // (index of the top left corner's first channel) * 16 + Cell::corners

  // One more than there are points: the rows of a warp start in different banks.
  static CQDINO_INLINE int64_t bytes(int64_t count, bool backward) {
    const int64_t places = (count + 1) * sizeof(int64_t) + 15;
    return (count + 1) * (backward ? 2 : 1) * sizeof(Corners<F>) + places / 16 * 16;
  }

  __device__ __forceinline__ Notes(unsigned char* memory, int count, bool backward)
      : weight(reinterpret_cast<Corners<F>*>(memory)),
        product(weight + (backward ? count + 1 : 0)),
        place(reinterpret_cast<int64_t*>(product + count + 1)) {}
};

template <class F>
struct Point {
  Cell<F> cell;
  F weight, outside;
  F scale_x, scale_y;  // cells per unit of what is stored
};

// Divides in 32 bits where that is possible, which is many times faster.
__device__ __forceinline__ int64_t divide(int64_t dividend, int64_t divisor) {
  if (((dividend | divisor) >> 32) == 0) {
    return static_cast<uint32_t>(dividend) / static_cast<uint32_t>(divisor);
  }
  return dividend / divisor;
}

template <int LANES, class F>
__device__ __forceinline__ F sum_of_group(F x) {
#pragma unroll
  for (int other = 1; other < LANES; other *= 2) x += __shfl_xor_sync(WHOLE_WARP, x, other);
  return x;
}

template <int LANES, class F>
__device__ __forceinline__ F largest_of_group(F x) {
#pragma unroll
  for (int other = 1; other < LANES; other *= 2) {
    const F theirs = __shfl_xor_sync(WHOLE_WARP, x, other);
    x = theirs > x ? theirs : x;
  }
  return x;
}

// Sums four numbers over the group with few exchanges: the lane whose two lowest bits are b1 b0
// returns the sum of number 2 * b0 + b1.
template <int LANES, class F>
__device__ __forceinline__ F sum_four_of_group(const F (&x)[4], int lane) {
  const bool odd = lane & 1, high = lane & 2;
  F first = odd ? x[2] : x[0], second = odd ? x[3] : x[1];
  first += __shfl_xor_sync(WHOLE_WARP, odd ? x[0] : x[2], 1);
  second += __shfl_xor_sync(WHOLE_WARP, odd ? x[1] : x[3], 1);
  F sum = high ? second : first;
  sum += __shfl_xor_sync(WHOLE_WARP, high ? first : second, 2);
#pragma unroll
  for (int other = 4; other < LANES; other *= 2) sum += __shfl_xor_sync(WHOLE_WARP, sum, other);
  return sum;
}

// One row as one lane of its group sees it.
template <class T, class F, int LANES>
struct Row {
  const Problem<T, F>& problem;
  int lane, count;   // count: points of the row
  bool active;       // false behind the last row: takes part in exchanges, touches no memory
  int64_t query;     // counted over the batch
  int64_t first;     // index of the row's first point
  int64_t channels;  // index of the row's first channel in output
  int64_t value;     // index of the head's first channel at the image's first token
  F largest, total;  // of the softmax

  __device__ __forceinline__ Row(const Problem<T, F>& all, int64_t row)
      : problem(all), lane(threadIdx.x % LANES) {
    const Sizes& sizes = problem.sizes;
    count = static_cast<int>(sizes.levels * sizes.points);
    active = row < sizes.batch * sizes.queries * sizes.heads;
    row = active ? row : 0;
    query = divide(row, sizes.heads);
    const int64_t head = row - query * sizes.heads;
    first = row * count;
    channels = row * sizes.channels;
    value = (divide(query, sizes.queries) * sizes.tokens * sizes.heads + head) * sizes.channels;
    largest = 0;
    total = 1;
    if (problem.references != nullptr) prepare_softmax();
  }

  __device__ __forceinline__ void prepare_softmax() {
    largest = -INFINITY;
    for (int i = lane; i < count; i += LANES) {
      const F logit = active ? widen(problem.weights[first + i]) : F(0);
      largest = logit > largest ? logit : largest;
    }
    largest = largest_of_group<LANES>(largest);
    total = 0;
    for (int i = lane; i < count; i += LANES) {
      total += active ? exp(widen(problem.weights[first + i]) - largest) : F(1);
    }
    total = sum_of_group<LANES>(total);
  }

  __device__ __forceinline__ F weight(int i) const {
    const F weight = widen(problem.weights[first + i]);
    return problem.references == nullptr ? weight : exp(weight - largest) / total;
  }

  // Only for an active row.
  __device__ __forceinline__ Point<F> point(int i) const {
    const Sizes& sizes = problem.sizes;
    const int level = i / static_cast<int>(sizes.points);
    const int64_t height = problem.shapes[2 * level], width = problem.shapes[2 * level + 1];
    const bool sound = level_is_inside(height, width, problem.starts[level], sizes.tokens);
    Point<F> point;
    F x, y;
    if (problem.references == nullptr) {
      point.scale_x = F(width);
      point.scale_y = F(height);
      x = problem.locations[2 * (first + i)] * point.scale_x - F(0.5);
      y = problem.locations[2 * (first + i) + 1] * point.scale_y - F(0.5);
    } else {
      const F* reference =
          problem.references + (query * sizes.levels + level) * sizes.reference_size;
      const bool box = sizes.reference_size == 4;
      point.scale_x = box ? reference[2] * (F(0.5) / F(sizes.points)) * F(width) : F(1);
      point.scale_y = box ? reference[3] * (F(0.5) / F(sizes.points)) * F(height) : F(1);
      x = reference[0] * F(width) - F(0.5) +
          point.scale_x * widen(problem.offsets[2 * (first + i)]);
      y = reference[1] * F(height) - F(0.5) +
          point.scale_y * widen(problem.offsets[2 * (first + i) + 1]);
    }
    x = sound ? x : F(NAN);  // nothing is read, and it shows
    point.cell = locate(x, y, static_cast<int32_t>(height), static_cast<int32_t>(width));
    point.weight = weight(i);
    point.outside = point.weight * outside_value(x, y);
    return point;
  }

  // Notes where the lane's share of the points lie.
  __device__ __forceinline__ void take_notes(const Notes<F>& notes, bool backward) const {
    for (int i = lane; active && i < count; i += LANES) {
      const Point<F> point = this->point(i);
      const Cell<F>& cell = point.cell;
      const int level = i / static_cast<int>(problem.sizes.points);
      const F lower = point.weight * cell.down, upper = point.weight - lower;
      const F top_right = upper * cell.right, bottom_right = lower * cell.right;
      Corners<F> weight = {{upper - top_right, top_right, lower - bottom_right, bottom_right}};
      if (cell.corners == 0) weight = {{point.outside, 0, 0, 0}};
      notes.weight[i] = weight;
      if (backward) notes.product[i] = {{0, 0, 0, 0}};
      const int64_t token = problem.starts[level] + cell.column +
                            cell.row * problem.shapes[2 * level + 1];
      notes.place[i] = (value + token * stride()) * 16 + cell.corners;
    }
    __syncwarp();
  }

  // From one token to the next.
  __device__ __forceinline__ int64_t stride() const {
    return problem.sizes.heads * problem.sizes.channels;
  }

  // Calls visit(i, where the four corners' first channels are, which of them are inside).
  template <class Visit>
  __device__ __forceinline__ void for_points(const Notes<F>& notes, Visit visit) const {
    int i = 0;
    for (int level = 0; level < problem.sizes.levels; ++level) {
      const int64_t below = problem.shapes[2 * level + 1] * stride();
#pragma unroll 2
      for (int point = 0; point < problem.sizes.points; ++point, ++i) {
        const int64_t top = notes.place[i] >> 4;
        const int corners = active ? static_cast<int>(notes.place[i] & ALL) : 0;
        const int64_t at[4] = {top, top + stride(), top + below, top + below + stride()};
        visit(i, at, corners);
      }
    }
  }
};

template <int LANES>
__device__ __forceinline__ unsigned char* memory_of_group(int64_t bytes) {
  extern __shared__ __align__(16) unsigned char shared[];
  return shared + threadIdx.x / LANES * bytes;
}

template <int LANES>
__device__ __forceinline__ int64_t row_of_thread() {
  return int64_t(blockIdx.x) * (blockDim.x / LANES) + threadIdx.x / LANES;
}

template <class T, class F, int VECTOR, int LANES>
__global__ void forward_kernel(const Problem<T, F> problem) {
  const Row<T, F, LANES> row(problem, row_of_thread<LANES>());
  const int64_t bytes = Notes<F>::bytes(row.count, false);
  const Notes<F> notes(memory_of_group<LANES>(bytes), row.count, false);
  row.take_notes(notes, false);
  for (int64_t c = row.lane * VECTOR; c < problem.sizes.channels; c += LANES * VECTOR) {
    F sum[VECTOR] = {};
    row.for_points(notes, [&](int i, const int64_t(&at)[4], int corners) {
      F values[4][VECTOR] = {};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (corners >> k & 1) read<VECTOR>(problem.value + at[k] + c, values[k]);
      }
      const Corners<F> weight = notes.weight[i];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) sum[j] += weight.of[k] * values[k][j];
      }
    });
    if (row.active) write<VECTOR>(sum, problem.output + row.channels + c);
  }
}

// The products of the four corners become the gradients of a point's place and weight.
template <class F>
__device__ __forceinline__ void point_gradients(const Point<F>& point, const F (&product)[4],
                                                F& grad_x, F& grad_y, F& grad_weight) {
  const Cell<F>& cell = point.cell;
  const F along_top = product[1] - product[0], along_bottom = product[3] - product[2];
  const F top = product[0] + cell.right * along_top;
  const F bottom = product[2] + cell.right * along_bottom;
  grad_weight = top + cell.down * (bottom - top);
  grad_x = point.weight * point.scale_x * (along_top + cell.down * (along_bottom - along_top));
  grad_y = point.weight * point.scale_y * (bottom - top);
  if (cell.corners == 0) grad_x = grad_y = grad_weight = point.outside;
}

template <class T, class F, int LANES>
__device__ __forceinline__ void write_point_gradients(const Row<T, F, LANES>& row,
                                                      const Notes<F>& notes) {
  const Problem<T, F>& problem = row.problem;
  const bool fused = problem.references != nullptr;
  F mean = 0;
  for (int i = row.lane; row.active && i < row.count; i += LANES) {
    const Point<F> point = row.point(i);
    F grad_x, grad_y, grad_weight;
    point_gradients(point, notes.product[i].of, grad_x, grad_y, grad_weight);
    const int64_t at = row.first + i;
    if (fused) {
      problem.grad_offsets[2 * at] = Narrow<T, F>::from(grad_x);
      problem.grad_offsets[2 * at + 1] = Narrow<T, F>::from(grad_y);
      notes.product[i].of[0] = grad_weight;
      mean += point.weight * grad_weight;
    } else {
      problem.grad_locations[2 * at] = grad_x;
      problem.grad_locations[2 * at + 1] = grad_y;
      problem.grad_weights[at] = Narrow<T, F>::from(grad_weight);
    }
  }
  if (!fused) return;
  mean = sum_of_group<LANES>(mean);
  for (int i = row.lane; row.active && i < row.count; i += LANES) {
    const F grad = row.weight(i) * (notes.product[i].of[0] - mean);  // of the softmax
    problem.grad_weights[row.first + i] = Narrow<T, F>::from(grad);
  }
}

// `sums`: like grad_value, zero at first; float32 also for narrower types.
template <class T, class F, int VECTOR, int LANES>
__global__ void backward_kernel(const Problem<T, F> problem, F* sums) {
  const Row<T, F, LANES> row(problem, row_of_thread<LANES>());
  const int64_t bytes = Notes<F>::bytes(row.count, true);
  const Notes<F> notes(memory_of_group<LANES>(bytes), row.count, true);
  row.take_notes(notes, true);
  // The same number of rounds for all lanes: they exchange sums.
  for (int64_t start = 0; start < problem.sizes.channels; start += LANES * VECTOR) {
    const int64_t c = start + row.lane * VECTOR;
    const bool has_channels = c < problem.sizes.channels;
    F grad[VECTOR] = {};
    if (row.active && has_channels) read<VECTOR>(problem.grad_output + row.channels + c, grad);
    row.for_points(notes, [&](int i, const int64_t(&at)[4], int corners) {
      const Corners<F> weight = notes.weight[i];
      F product[4] = {};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if ((corners >> k & 1) == 0 || !has_channels) continue;
        F values[VECTOR];
        read<VECTOR>(problem.value + at[k] + c, values);
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) product[k] += grad[j] * values[j];
        add_atomically(sums + at[k] + c, weight.of[k], grad);
      }
      const F sum = sum_four_of_group<LANES>(product, row.lane);
      if (row.active && row.lane < 4) {
        notes.product[i].of[2 * (row.lane & 1) + (row.lane >> 1)] += sum;
      }
    });
  }
  __syncwarp();
  write_point_gradients(row, notes);
}

}  // namespace cuda
}  // namespace cqdino
