#include "launch.cuh"

namespace cqdino {
namespace cuda {
CQDINO_LAUNCHERS(BFloat16Bits, float)
}  // namespace cuda
}  // namespace cqdino
