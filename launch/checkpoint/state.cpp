#include "launch/checkpoint/state.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"

namespace cadre::launch {
namespace {

constexpr size_t kNameLength = 1024;

Shape zeros_like(Shape shape) {
  for (int axis = 0; axis < shape.rank(); ++axis) shape = shape.with(axis, 0);
  return shape;
}

Shape ones_like(Shape shape) {
  for (int axis = 0; axis < shape.rank(); ++axis) shape = shape.with(axis, 1);
  return shape;
}

// Elements [begin, end) below `axis`, the outer axes being fixed by `at`.
void add_boxes(const Shape& shape, int axis, const Shape& at, int64_t begin, int64_t end, std::vector<Block>& boxes) {
  if (begin >= end) return;
  int64_t stride = 1;
  for (int inner = axis + 1; inner < shape.rank(); ++inner) stride *= shape[inner];
  const auto partial = [&](int64_t index, int64_t from, int64_t to) {
    add_boxes(shape, axis + 1, at.with(axis, index), from, to, boxes);
  };
  int64_t first = begin / stride;
  const int64_t last = end / stride;
  if (begin % stride != 0) {
    partial(first, begin % stride, std::min(end - first * stride, stride));
    ++first;
  }
  if (first < last) {
    Shape extent = ones_like(shape).with(axis, last - first);
    for (int inner = axis + 1; inner < shape.rank(); ++inner) extent = extent.with(inner, shape[inner]);
    boxes.push_back({at.with(axis, first), extent});
  }
  if (first <= last && end % stride != 0) partial(last, 0, end % stride);
}

}  // namespace

StateEntry whole_entry(std::string name, TensorView data) {
  return {std::move(name), data.shape, zeros_like(data.shape), data};
}

bool is_tensor_name(std::string_view name) {
  if (name.size() < 2 || name.size() > kNameLength || name.front() != '/' || name.back() == '/') return false;
  if (!std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 127; })) return false;
  for (size_t begin = 1; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

void check_entry(const StateEntry& entry) {
  if (!is_tensor_name(entry.name)) {
    throw CheckpointError(fmt::format("'{}' is not a tensor name; wanted a path such as /model/embedding", entry.name));
  }
  const Shape& block = entry.data.shape;
  bool fits = block.rank() == entry.global_shape.rank() && entry.offset.rank() == block.rank();
  for (int axis = 0; fits && axis < block.rank(); ++axis) {
    fits = entry.offset[axis] + block[axis] <= entry.global_shape[axis];
  }
  if (!fits) {
    throw CheckpointError(fmt::format("{}: a block {} at {} does not fit the tensor {}", entry.name, block.to_string(),
                                      entry.offset.to_string(), entry.global_shape.to_string()));
  }
  if (block.elements() > 0 && !entry.data) throw CheckpointError(fmt::format("{}: has no data", entry.name));
}

StateEntry rows_of(const StateEntry& entry, int64_t begin, int64_t end) {
  StateEntry part = entry;
  const Shape& shape = entry.data.shape;
  const int64_t matrix_rows = shape.rank() > 1 && shape[0] > 0 ? entry.data.rows() / shape[0] : 0;
  const int64_t elements = shape.rank() > 1 ? begin * matrix_rows * entry.data.row_stride : begin;
  part.data.data = static_cast<char*>(entry.data.data) + static_cast<size_t>(elements) * size_of(entry.data.dtype);
  part.data.shape = shape.with(0, end - begin);
  if (shape.rank() == 1) part.data.row_stride = end - begin;
  part.offset = entry.offset.with(0, entry.offset[0] + begin);
  return part;
}

std::vector<Block> boxes_of_flat_range(const Shape& shape, int64_t begin, int64_t end) {
  std::vector<Block> boxes;
  if (begin < 0 || end > shape.elements()) {
    throw InternalError(fmt::format("elements {}..{} of {}", begin, end, shape.to_string()));
  }
  if (shape.rank() == 0) {
    if (begin < end) boxes.push_back({shape, shape});
    return boxes;
  }
  add_boxes(shape, 0, zeros_like(shape), begin, end, boxes);
  return boxes;
}

std::vector<StateEntry> flat_entries(const std::string& name, const Shape& global_shape, int64_t begin,
                                     TensorView data) {
  if (!data.contiguous()) throw InternalError(fmt::format("{}: a flat range must be contiguous", name));
  std::vector<StateEntry> entries;
  char* position = static_cast<char*>(data.data);
  for (const Block& box : boxes_of_flat_range(global_shape, begin, begin + data.shape.elements())) {
    const TensorView part{position, data.dtype, box.extent, box.extent.cols()};
    entries.push_back({name, global_shape, box.begin, part});
    position += entries.back().bytes();
  }
  return entries;
}

}  // namespace cadre::launch
