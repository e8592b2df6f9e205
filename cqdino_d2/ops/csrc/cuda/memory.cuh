// Numbers as they lie in memory, read as accumulators and written back, up to 16 bytes at once.
#pragma once

#include <cstdint>

#include "../problem.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace cqdino {
namespace cuda {

template <class T, int N>
struct alignas(sizeof(T) * N) Packed {
  T numbers[N];
};

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(HalfBits x) {
  return __half2float(__ushort_as_half(x.bits));
}
__device__ __forceinline__ float widen(BFloat16Bits x) {
  return __bfloat162float(__ushort_as_bfloat16(x.bits));
}

template <class T, class F>
struct Narrow {
  static __device__ __forceinline__ T from(F x) { return x; }
};
template <>
struct Narrow<HalfBits, float> {
  static __device__ __forceinline__ HalfBits from(float x) {
    return {__half_as_ushort(__float2half_rn(x))};
  }
};
template <>
struct Narrow<BFloat16Bits, float> {
  static __device__ __forceinline__ BFloat16Bits from(float x) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  }
};

template <int N, class T, class F>
__device__ __forceinline__ void read(const T* from, F (&to)[N]) {
  const auto packed = *reinterpret_cast<const Packed<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = widen(packed.numbers[i]);
}

template <int N, class T, class F>
__device__ __forceinline__ void write(const F (&from)[N], T* to) {
  Packed<T, N> packed;
#pragma unroll
  for (int i = 0; i < N; ++i) packed.numbers[i] = Narrow<T, F>::from(from[i]);
  *reinterpret_cast<Packed<T, N>*>(to) = packed;
}

// sums += factor * numbers, atomically; four at once where the GPU can (compute capability 9).
template <int N, class F>
__device__ __forceinline__ void add_atomically(F* sums, F factor, const F (&numbers)[N]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr bool by_fours = N % 4 == 0 && sizeof(F) == 4;
#else
  constexpr bool by_fours = false;
#endif
  if constexpr (by_fours) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      atomicAdd(reinterpret_cast<float4*>(sums + i),
                make_float4(factor * numbers[i], factor * numbers[i + 1], factor * numbers[i + 2],
                            factor * numbers[i + 3]));
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) atomicAdd(sums + i, factor * numbers[i]);
  }
}

}  // namespace cuda
}  // namespace cqdino
