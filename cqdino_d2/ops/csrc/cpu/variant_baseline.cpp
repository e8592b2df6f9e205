// The kernels for any processor.
#include "kernels.h"

namespace cqdino::baseline {
constexpr int VECTOR_BYTES = 16;
#include "variant.h"
}
