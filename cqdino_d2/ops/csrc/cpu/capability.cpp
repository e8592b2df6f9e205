// The choice of the instruction set.
#include "capability.h"

#include <ATen/Version.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cstdlib>
#include <string>

namespace cqdino {
namespace {

constexpr const char* VARIABLE = "CQDINO_CPU_CAPABILITY";
constexpr const char* NAMES[] = {"baseline", "avx2", "avx512"};  // in the order of Capability

bool is_supported(Capability capability) {
  if (capability == Capability::BASELINE) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (capability == Capability::AVX2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

// Follows ATen's choice, so also ATEN_CPU_CAPABILITY.
Capability capability_of_aten() {
#if defined(__x86_64__)
  const std::string name = at::get_cpu_capability();
  if (name == "AVX512") return Capability::AVX512;
  if (name == "AVX2") return Capability::AVX2;
#endif
  return Capability::BASELINE;
}

Capability choose() {
  const char* wanted = std::getenv(VARIABLE);
  if (wanted == nullptr || *wanted == '\0') return capability_of_aten();
  for (const Capability one : {Capability::BASELINE, Capability::AVX2, Capability::AVX512}) {
    if (std::string(NAMES[static_cast<int>(one)]) != wanted) continue;
    TORCH_CHECK_VALUE(is_supported(one), VARIABLE, "=", wanted,
                      ": this processor lacks these instructions");
    return one;
  }
  TORCH_CHECK_VALUE(false, VARIABLE, "=", wanted, ": expected avx512, avx2 or baseline");
}

}  // namespace

Capability cpu_capability() {
  static const Capability chosen = choose();
  return chosen;
}

}  // namespace cqdino

TORCH_LIBRARY_FRAGMENT(cqdino_d2, library) {
  library.def("cpu_capability() -> str", [] {
    return std::string(cqdino::NAMES[static_cast<int>(cqdino::cpu_capability())]);
  });
}
