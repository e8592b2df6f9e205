#include "launch.cuh"

namespace cqdino {
namespace cuda {
CQDINO_LAUNCHERS(HalfBits, float)
}  // namespace cuda
}  // namespace cqdino
