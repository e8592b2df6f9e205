#include "launch.cuh"

namespace cqdino {
namespace cuda {
CQDINO_LAUNCHERS(double, double)
}  // namespace cuda
}  // namespace cqdino
