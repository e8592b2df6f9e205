// Where a sample lies in its level's map: arithmetic shared by the CPU and the CUDA kernels.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define CQDINO_INLINE __host__ __device__ __forceinline__
#else
#define CQDINO_INLINE inline __attribute__((always_inline))
#endif

namespace cqdino {

// Whether a level's map lies within the tokens, and can be counted with 32 bits along each axis.
CQDINO_INLINE bool level_is_inside(int64_t height, int64_t width, int64_t start, int64_t tokens) {
  const int64_t most = INT32_MAX;
  return height >= 0 && width >= 0 && height <= most && width <= most && start >= 0 &&
         start <= tokens && height * width <= tokens - start;
}

// Bits of Cell::corners: which of the four cells around a sample lie inside the map.
enum : int32_t { TOP_LEFT = 1, TOP_RIGHT = 2, BOTTOM_LEFT = 4, BOTTOM_RIGHT = 8, ALL = 15 };

template <class F>
struct Cell {
  int32_t row, column;  // of the top left corner
  int32_t corners;      // bits; 0: the sample lies outside (or nowhere, if it is NaN)
  F down, right;        // the sample's place between the corners, in [0, 1)
};

// A sample at (x, y) in cells, the centre of the first cell being (0, 0). No branches, so that a
// loop over samples can be vectorised. NaN lies outside.
template <class F>
CQDINO_INLINE Cell<F> locate(F x, F y, int32_t height, int32_t width) {
  const bool near = (x > F(-1)) & (y > F(-1)) & (x < F(width)) & (y < F(height));
  x = near ? x : F(0);
  y = near ? y : F(0);
  Cell<F> cell;
  cell.column = static_cast<int32_t>(x);
  cell.row = static_cast<int32_t>(y);
  cell.column -= F(cell.column) > x;  // the conversion rounds towards zero, floor is meant
  cell.row -= F(cell.row) > y;
  cell.right = x - F(cell.column);
  cell.down = y - F(cell.row);
  const int32_t top = cell.row >= 0, bottom = cell.row + 1 < height;
  const int32_t left = cell.column >= 0, right = cell.column + 1 < width;
  cell.corners = near ? (top & left) * TOP_LEFT | (top & right) * TOP_RIGHT |
                            (bottom & left) * BOTTOM_LEFT | (bottom & right) * BOTTOM_RIGHT
                      : 0;
  return cell;
}

// What a sample outside the map is worth: nothing, but NaN if its place is NaN.
template <class F>
CQDINO_INLINE F outside_value(F x, F y) {
  return (x != x) | (y != y) ? x + y : F(0);
}

}  // namespace cqdino
