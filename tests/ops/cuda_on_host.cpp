// Runs the CUDA kernels on the CPU: one thread per lane of a warp, exchanges by barriers. Slow, and
// blind to what only a GPU does wrong, but it runs the very text of kernels.cuh.
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 900

struct Index {
  unsigned x;
};
static Index blockIdx, blockDim{32};
static thread_local Index threadIdx;
static std::barrier<> warp(32);
static std::mutex adding;
static double exchanged[32];

static void __syncwarp() { warp.arrive_and_wait(); }

template <class F>
static F __shfl_xor_sync(unsigned, F x, int other) {
  exchanged[threadIdx.x] = x;  // a double holds every float
  warp.arrive_and_wait();
  const F theirs = F(exchanged[threadIdx.x ^ other]);
  warp.arrive_and_wait();
  return theirs;
}

template <class F>
static void atomicAdd(F* to, F x) {
  const std::lock_guard<std::mutex> alone(adding);
  *to += x;
}

struct alignas(16) float4 {
  float of[4];
};
static float4 make_float4(float a, float b, float c, float d) { return {{a, b, c, d}}; }
static void atomicAdd(float4* to, float4 x) {
  for (int i = 0; i < 4; ++i) atomicAdd(to->of + i, x.of[i]);
}

struct HostHalf {
  uint16_t bits;
};
struct HostBFloat16 {
  uint16_t bits;
};
static HostHalf __ushort_as_half(uint16_t bits) { return {bits}; }
static uint16_t __half_as_ushort(HostHalf x) { return x.bits; }
static HostBFloat16 __ushort_as_bfloat16(uint16_t bits) { return {bits}; }
static uint16_t __bfloat16_as_ushort(HostBFloat16 x) { return x.bits; }
static float __half2float(HostHalf x) {
  _Float16 half;
  std::memcpy(&half, &x, 2);
  return half;
}
static HostHalf __float2half_rn(float x) {
  const _Float16 half = static_cast<_Float16>(x);
  HostHalf result;
  std::memcpy(&result, &half, 2);
  return result;
}
static float __bfloat162float(HostBFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}
static HostBFloat16 __float2bfloat16_rn(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

namespace cqdino {
namespace cuda {
alignas(16) unsigned char shared[48 * 1024];
}
}  // namespace cqdino

#include "../../cqdino_d2/ops/csrc/cuda/kernels.cuh"

using namespace cqdino;

template <class T, class F, int VECTOR, int LANES>
static void run(const Problem<T, F>& problem, F* sums) {
  const Sizes& sizes = problem.sizes;
  const int64_t rows = sizes.batch * sizes.queries * sizes.heads, rows_of_block = 32 / LANES;
  for (blockIdx.x = 0; blockIdx.x * rows_of_block < rows; ++blockIdx.x) {
    std::memset(cuda::shared, 0xff, sizeof(cuda::shared));  // NaN where nothing was written
    std::vector<std::thread> lanes;
    for (unsigned lane = 0; lane < 32; ++lane) {
      lanes.emplace_back([&, lane] {
        threadIdx.x = lane;
        if (sums == nullptr) {
          cuda::forward_kernel<T, F, VECTOR, LANES>(problem);
        } else {
          cuda::backward_kernel<T, F, VECTOR, LANES>(problem, sums);
        }
      });
    }
    for (std::thread& lane : lanes) lane.join();
  }
}

// As launch.cuh chooses.
template <class T, class F>
static void choose(const Problem<T, F>* problem, F* sums) {
  constexpr int FULL = 16 / sizeof(T), SMALL = FULL > 4 ? 4 : FULL;
  switch (problem->sizes.channels) {
    case 16:
      return run<T, F, SMALL, 16 / SMALL>(*problem, sums);
    case 32:
      return run<T, F, FULL, 32 / FULL>(*problem, sums);
    case 64:
      return run<T, F, FULL, 64 / FULL>(*problem, sums);
    default:
      return run<T, F, 1, 32>(*problem, sums);
  }
}

extern "C" {
void run_float32(const void* problem, float* sums) {
  choose(static_cast<const Problem<float, float>*>(problem), sums);
}
void run_float64(const void* problem, double* sums) {
  choose(static_cast<const Problem<double, double>*>(problem), sums);
}
void run_float16(const void* problem, float* sums) {
  choose(static_cast<const Problem<HalfBits, float>*>(problem), sums);
}
void run_bfloat16(const void* problem, float* sums) {
  choose(static_cast<const Problem<BFloat16Bits, float>*>(problem), sums);
}
}
