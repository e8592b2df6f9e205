// Which instruction set the CPU kernels use.
#pragma once

namespace cqdino {

enum class Capability { BASELINE, AVX2, AVX512 };

// What CQDINO_CPU_CAPABILITY says, else what ATen uses; decided once. Raises where the variable
// names no instruction set, or one that the processor lacks.
Capability cpu_capability();

}  // namespace cqdino
