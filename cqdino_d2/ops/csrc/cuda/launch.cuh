// Chooses among the kernels and starts them.
#pragma once

#include <algorithm>

#include "kernels.cuh"
#include "launch.h"

namespace cqdino {
namespace cuda {

constexpr int WARP = 32;
constexpr int64_t SHARED_BYTES = 48 * 1024;  // what every GPU gives without being asked

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Starts `kernel` with as many threads a block as the notes leave room for, four warps at most.
template <class T, class F, int LANES, class... Arguments>
cudaError_t launch(void (*kernel)(const Problem<T, F>, Arguments...), const Problem<T, F>& problem,
                   cudaStream_t stream, bool backward, Arguments... arguments) {
  const Sizes& sizes = problem.sizes;
  const int64_t rows = sizes.batch * sizes.queries * sizes.heads;
  if (rows == 0) return cudaSuccess;
  const int64_t row_bytes = Notes<F>::bytes(sizes.levels * sizes.points, backward);
  const int64_t warp_bytes = row_bytes * (WARP / LANES);
  const int64_t warps = std::max<int64_t>(1, std::min<int64_t>(4, SHARED_BYTES / warp_bytes));
  const int64_t rows_of_block = warps * (WARP / LANES);
  const int64_t blocks = (rows + rows_of_block - 1) / rows_of_block;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(warps * WARP), warps * warp_bytes,
           stream>>>(problem, arguments...);
  return cudaGetLastError();
}

// 128-bit loads for 32 and 64 channels (16 with half and bfloat16: 64-bit), one number at a time
// for others. LANES is 4 at least, see sum_four_of_group.
template <class T, class F, class Start>
cudaError_t choose(int64_t channels, bool all_aligned, Start start) {
  constexpr int FULL = 16 / sizeof(T);
  constexpr int SMALL = FULL > 4 ? 4 : FULL;
  if (all_aligned && channels == 16) return start.template operator()<SMALL, 16 / SMALL>();
  if (all_aligned && channels == 32) return start.template operator()<FULL, 32 / FULL>();
  if (all_aligned && channels == 64) return start.template operator()<FULL, 64 / FULL>();
  return start.template operator()<1, WARP>();
}

template <class T, class F>
struct StartForward {
  const Problem<T, F>& problem;
  cudaStream_t stream;
  template <int VECTOR, int LANES>
  cudaError_t operator()() const {
    return launch<T, F, LANES>(forward_kernel<T, F, VECTOR, LANES>, problem, stream, false);
  }
};

template <class T, class F>
struct StartBackward {
  const Problem<T, F>& problem;
  F* sums;
  cudaStream_t stream;
  template <int VECTOR, int LANES>
  cudaError_t operator()() const {
    return launch<T, F, LANES>(backward_kernel<T, F, VECTOR, LANES>, problem, stream, true, sums);
  }
};

template <class T, class F>
cudaError_t launch_forward(const Problem<T, F>& problem, cudaStream_t stream) {
  const bool all_aligned = aligned(problem.value) && aligned(problem.output);
  return choose<T, F>(problem.sizes.channels, all_aligned, StartForward<T, F>{problem, stream});
}

template <class T, class F>
cudaError_t launch_backward(const Problem<T, F>& problem, F* sums, cudaStream_t stream) {
  const bool all_aligned =
      aligned(problem.value) && aligned(problem.grad_output) && aligned(sums);
  return choose<T, F>(problem.sizes.channels, all_aligned,
                      StartBackward<T, F>{problem, sums, stream});
}

#define CQDINO_LAUNCHERS(T, F)                                                    \
  template cudaError_t launch_forward<T, F>(const Problem<T, F>&, cudaStream_t); \
  template cudaError_t launch_backward<T, F>(const Problem<T, F>&, F*, cudaStream_t);

}  // namespace cuda
}  // namespace cqdino
