#pragma once
// Tensor: an owned, contiguous, row-major array. TensorView: what kernels take; it owns nothing and may have a row
// stride, so that the q, k and v parts of one matrix, or gate and up, need no copy.

#include <memory>

#include "core/dtype.h"
#include "core/memory/allocator.h"
#include "core/shape.h"

namespace cadre {

struct TensorView {
  void* data = nullptr;
  Dtype dtype = Dtype::kF32;
  Shape shape;
  int64_t row_stride = 0;  // elements from one row to the next; a row is the last axis

  int64_t rows() const { return shape.rows(); }
  int64_t cols() const { return shape.cols(); }
  bool contiguous() const { return row_stride == cols() || rows() <= 1; }
  explicit operator bool() const { return data != nullptr; }

  // Columns [begin, end) of every row; shares storage.
  TensorView columns(int64_t begin, int64_t end) const;
  // Throws InternalError when T is not the view's element type.
  template <class T>
  T* as() const {
    check_dtype(DtypeOf<T>::value);
    return static_cast<T*>(data);
  }

 private:
  void check_dtype(Dtype wanted) const;
};

class Tensor {
 public:
  Tensor() = default;
  // Uninitialised.
  static Tensor empty(Allocator& allocator, Dtype dtype, Shape shape);
  static Tensor zeros(Allocator& allocator, Dtype dtype, Shape shape);
  // `elements` of a flat tensor from `begin`, seen as `shape`; shares storage.
  Tensor flat_slice(int64_t begin, Shape shape) const;
  // Rows [begin, end) of the first axis; shares storage.
  Tensor slice(int64_t begin, int64_t end) const;
  Tensor reshape(Shape shape) const;

  explicit operator bool() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  int64_t elements() const { return shape_.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * size_of(dtype_); }
  void* raw() const;
  template <class T>
  T* data() const {
    return view().as<T>();
  }
  TensorView view() const;
  operator TensorView() const { return view(); }
  // True when no other Tensor shares the storage, so that it may be overwritten.
  bool sole_owner() const { return buffer_.use_count() == 1; }

 private:
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;  // bytes
  Dtype dtype_ = Dtype::kF32;
  Shape shape_;
};

}  // namespace cadre
