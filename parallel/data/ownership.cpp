#include "parallel/data/ownership.h"

#include <algorithm>

namespace cadre::parallel {

ElementRange owned_range(int64_t elements, int64_t first_piece, int index, int holders) {
  const int64_t pieces = pieces_of(elements);
  const int64_t turn = (index + holders - first_piece % holders) % holders;
  const auto boundary = [&](int64_t i) { return std::min(elements, pieces * i / holders * kPieceElements); };
  return {boundary(turn), boundary(turn + 1)};
}

}  // namespace cadre::parallel
