#include <bit>

#include "core/memory/allocator.h"

namespace cadre {

size_t size_class(size_t bytes) {
  if (bytes <= 256) return 256;
  const size_t step = std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) / step * step;
}

}  // namespace cadre
