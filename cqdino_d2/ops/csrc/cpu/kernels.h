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
  // see Cell; the token is that of the top left corner, even where it lies outside
  int64_t* token;
  int32_t* corners;
  F *down, *right;
  F *weight, *outside;
  // weights of the corners, the point's own included
  F *top_left, *top_right, *bottom_left, *bottom_right;
  // backward: products of grad_output with the four corners, those of a point side by side
  F* product;
  F *grad_x, *grad_y, *grad_weight;
};

// The queries [first, last) of an image, as one head asks them.
struct Part {
  int64_t image, head, first, last;
};

// Kernels compiled for one instruction set. The values of an image's head are a pointer to those of
// token 0 and the stride from token to token.
template <class T, class F>
struct Kernels {
  void (*forward)(const Problem<T, F>&, const Part&, const T* value, int64_t stride,
                  PointTable<F>&);
  // The gradients of places and weights; those of the values are added to `sums` (T, C), in the
  // order of the queries.
  void (*backward)(const Problem<T, F>&, const Part&, const T* value, int64_t stride, F* sums,
                   PointTable<F>&);
  // Brings the rows of one head together, and sums back to where the rows of the head lie.
  void (*pack)(const Sizes&, const T* value, int64_t stride, T* packed);
  void (*unpack)(const Sizes&, const F* sums, T* value, int64_t stride);
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
