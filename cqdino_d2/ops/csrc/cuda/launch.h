// What the C++ side calls of the CUDA side. Only CUDA's runtime and plain pointers on both.
#pragma once

#include <cuda_runtime_api.h>

#include "../problem.h"

namespace cqdino {
namespace cuda {

constexpr int64_t MOST_POINTS = 128;  // levels x points of a query and head: their notes fit

template <class T, class F>
cudaError_t launch_forward(const Problem<T, F>& problem, cudaStream_t stream);

// `sums`: where the gradient of the values is added up, zero at first, as (B, T, H, C) numbers of
// type F.
template <class T, class F>
cudaError_t launch_backward(const Problem<T, F>& problem, F* sums, cudaStream_t stream);

}  // namespace cuda
}  // namespace cqdino
