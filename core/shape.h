#pragma once
// A tensor's extents, outermost first; at most four axes, no heap.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace cadre {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return extents_[static_cast<size_t>(axis < 0 ? axis + rank_ : axis)]; }
  int64_t elements() const;
  // As a matrix: all axes but the last, and the last. A rank-0 shape is 1 x 1.
  int64_t rows() const;
  int64_t cols() const { return rank_ == 0 ? 1 : (*this)[-1]; }
  Shape with(int axis, int64_t extent) const;
  std::string to_string() const;  // "[tokens, hidden]" as "[2048, 256]"

  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace cadre
