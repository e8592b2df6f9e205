// The kernels for x86-64 processors with AVX512.
#if defined(__x86_64__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in the next header, with GCC 12
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(                                                          \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")
#endif

namespace cqdino::avx512 {
constexpr int VECTOR_BYTES = 64;

template <class Halves>
CQDINO_INLINE __m512 half_to_float(Halves halves) {
  return _mm512_cvtph_ps((__m256i)halves);
}

CQDINO_INLINE __m256 halved(__m512 lanes) {
  return _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
}
CQDINO_INLINE __m128 four_totals(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(halved(a), halved(b)),
                                     _mm256_hadd_ps(halved(c), halved(d)));
  return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

#include "variant.h"
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
