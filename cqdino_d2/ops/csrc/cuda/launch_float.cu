#include "launch.cuh"

namespace cqdino {
namespace cuda {
CQDINO_LAUNCHERS(float, float)
}  // namespace cuda
}  // namespace cqdino
