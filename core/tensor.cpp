#include "core/tensor.h"

#include <cstring>

#include "core/error.h"

namespace cadre {

TensorView TensorView::columns(int64_t begin, int64_t end) const {
  if (begin < 0 || begin > end || end > cols()) {
    throw InternalError("columns " + std::to_string(begin) + ".." + std::to_string(end) + " of " + shape.to_string());
  }
  TensorView part = *this;
  part.data = static_cast<char*>(data) + static_cast<size_t>(begin) * size_of(dtype);
  part.shape = shape.with(-1, end - begin);
  return part;
}

void TensorView::check_dtype(Dtype wanted) const {
  if (dtype != wanted) {
    throw InternalError("a view of " + std::string(name_of(dtype)) + " was read as " + std::string(name_of(wanted)));
  }
}

Tensor Tensor::empty(Allocator& allocator, Dtype dtype, Shape shape) {
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.shape_ = shape;
  tensor.buffer_ = allocator.allocate(tensor.bytes());
  return tensor;
}

Tensor Tensor::zeros(Allocator& allocator, Dtype dtype, Shape shape) {
  Tensor tensor = empty(allocator, dtype, shape);
  if (!allocator.gives_zeros()) std::memset(tensor.raw(), 0, tensor.bytes());
  return tensor;
}

Tensor Tensor::flat_slice(int64_t begin, Shape shape) const {
  if (begin < 0 || begin + shape.elements() > elements()) {
    throw InternalError("flat slice at " + std::to_string(begin) + " of " + shape.to_string() + " from " +
                        shape_.to_string());
  }
  Tensor part = *this;
  part.offset_ += static_cast<size_t>(begin) * size_of(dtype_);
  part.shape_ = shape;
  return part;
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  if (shape_.rank() == 0 || begin < 0 || begin > end || end > shape_[0]) {
    throw InternalError("slice " + std::to_string(begin) + ".." + std::to_string(end) + " of " + shape_.to_string());
  }
  const int64_t per_row = shape_[0] == 0 ? 0 : elements() / shape_[0];
  return flat_slice(begin * per_row, shape_.with(0, end - begin));
}

Tensor Tensor::reshape(Shape shape) const {
  if (shape.elements() != elements()) throw InternalError("reshape " + shape_.to_string() + " to " + shape.to_string());
  Tensor same = *this;
  same.shape_ = shape;
  return same;
}

void* Tensor::raw() const { return buffer_ ? static_cast<char*>(buffer_->data()) + offset_ : nullptr; }

TensorView Tensor::view() const {
  TensorView view;
  view.data = raw();
  view.dtype = dtype_;
  view.shape = shape_;
  view.row_stride = shape_.cols();
  return view;
}

}  // namespace cadre
