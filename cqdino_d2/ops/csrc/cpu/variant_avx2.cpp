// The kernels for x86-64 processors with AVX2.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace cqdino::avx2 {
constexpr int VECTOR_BYTES = 32;

template <class Halves>
CQDINO_INLINE __m256 half_to_float(Halves halves) {
  return _mm256_cvtph_ps((__m128i)halves);
}

#include "variant.h"
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
