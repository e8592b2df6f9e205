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

#include "variant.h"
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
