// What the CPU kernels need and offer, whatever the instruction set.
#pragma once

#include <cstdint>

#include "../problem.h"
#include "../sampling.h"

namespace cqdino {

// What one thread notes about the points of one query and head; each array has one entry a point.
template <class F>
struct PointTable {
  // the point's level
  int32_t *height, *width;
  int64_t* start;
  // (x, y) cells = base + scale * what is stored
  F *base_x, *base_y, *scale_x, *scale_y;
  int64_t placed;  // the query that base and scale are for, if there are references
  // see Cell
  int32_t *row, *column, *corners;
  F *down, *right;
  F *weight, *outside;
  // weights of the corners, the point's own included
  F *top_left, *top_right, *bottom_left, *bottom_right;
  // backward: products of grad_output with the four corners
  F *product[4];
  F *grad_x, *grad_y, *grad_weight;
};

// Kernels compiled for one instruction set.
template <class T, class F>
struct Kernels {
  // The outputs of the queries [begin, end), counted over the batch.
  void (*forward)(const Problem<T, F>&, int64_t begin, int64_t end, PointTable<F>&);
  // All gradients of the heads [first, last) of one image, in the same order always. Those of the
  // values are added to `sums`: for each token (last - first) * C numbers, every `stride` numbers.
  void (*backward)(const Problem<T, F>&, int64_t image, int64_t first, int64_t last, F* sums,
                   int64_t stride, PointTable<F>&);
  void (*round)(const F* sums, int64_t count, T* rounded);
};

#define CQDINO_DECLARE_KERNELS(variant)  \
  namespace variant {                    \
  template <class T, class F>            \
  Kernels<T, F> kernels();               \
  }
CQDINO_DECLARE_KERNELS(baseline)
CQDINO_DECLARE_KERNELS(avx2)
CQDINO_DECLARE_KERNELS(avx512)
#undef CQDINO_DECLARE_KERNELS

}  // namespace cqdino
