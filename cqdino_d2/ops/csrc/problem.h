// One call of the operator: sizes and pointers, the same on the CPU and on CUDA.
// B images, T tokens, H heads, C channels of a head, Q queries, L levels, P points.
#pragma once

#include <cstdint>

namespace cqdino {

// Half and bfloat16 numbers as they lie in memory.
struct HalfBits {
  uint16_t bits;
};
struct BFloat16Bits {
  uint16_t bits;
};

struct Sizes {
  int64_t batch, tokens, heads, channels, queries, levels, points;
  // Last size of the references: 2 (centres) or 4 (boxes); 0 = the locations are given.
  int64_t reference_size;
};

// T: the type of values and weights; F: that of locations and references, float or double.
template <class T, class F>
struct Problem {
  Sizes sizes;
  const T* value;            // (B, T, H, C)
  const int64_t* shapes;     // (L, 2) height, width
  const int64_t* starts;     // (L)
  const F* references;       // (B, Q, L, 2 or 4), or null
  const F* locations;        // (B, Q, H, L, P, 2), or null
  const T* offsets;          // the same, if there are references
  const T* weights;          // (B, Q, H, L, P); logits if there are references
  T* output;                 // (B, Q, H * C); forward only
  const T* grad_output;      // the rest: backward only, each as what it is the gradient of
  T* grad_value;
  F* grad_locations;
  T* grad_offsets;
  T* grad_weights;
};

}  // namespace cqdino
