#include "core/shape.h"

#include "core/error.h"

namespace cadre {

Shape::Shape(std::initializer_list<int64_t> extents) {
  if (extents.size() > kMaxRank)
    throw InternalError("a shape has at most 4 axes, got " + std::to_string(extents.size()));
  for (int64_t extent : extents) {
    if (extent < 0) throw InternalError("a shape's extent is negative: " + std::to_string(extent));
    extents_[static_cast<size_t>(rank_++)] = extent;
  }
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

int64_t Shape::rows() const {
  int64_t product = 1;
  for (int axis = 0; axis + 1 < rank_; ++axis) product *= (*this)[axis];
  return product;
}

Shape Shape::with(int axis, int64_t extent) const {
  Shape result = *this;
  result.extents_[static_cast<size_t>(axis < 0 ? axis + rank_ : axis)] = extent;
  return result;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) text += (axis ? ", " : "") + std::to_string((*this)[axis]);
  return text + "]";
}

}  // namespace cadre
