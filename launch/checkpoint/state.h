#pragma once
// What a checkpoint holds: named blocks of global tensors. Names and offsets say nothing about ranks, so that a
// checkpoint written on one layout is read on any other.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/hdf5_shard_reader.h"
#include "core/tensor.h"

namespace cadre::launch {

// A block of the tensor `name`: data.shape elements from `offset` of `global_shape`. Names are paths such as
// "/model/layers.3.moe.experts.17.w1" or "/optimizer/<name>/exp_avg". Over all ranks, the blocks of a name are disjoint
// and cover the tensor. The data is in host memory, and its rows may be strided.
struct StateEntry {
  std::string name;
  Shape global_shape;
  Shape offset;  // same rank as global_shape
  TensorView data;

  uint64_t bytes() const { return static_cast<uint64_t>(data.shape.elements()) * size_of(data.dtype); }
};

// A whole tensor as one entry.
StateEntry whole_entry(std::string name, TensorView data);

// "/" and then printable characters without spaces, no empty, "." or ".." component, at most 1024 characters.
bool is_tensor_name(std::string_view name);

// Throws CheckpointError naming the entry when its name is not one, or its block does not fit its tensor.
void check_entry(const StateEntry& entry);

// Rows [begin, end) of the first axis, as an entry of its own. Sharing storage.
StateEntry rows_of(const StateEntry& entry, int64_t begin, int64_t end);

// The boxes that make up elements [begin, end) of a tensor of this shape in row-major order, in that order; at most
// 2 x rank - 1 of them. For state that is owned by flat element ranges.
std::vector<Block> boxes_of_flat_range(const Shape& shape, int64_t begin, int64_t end);

// Entries for data.shape.elements() elements from `begin` of a tensor, `data` being one contiguous axis.
std::vector<StateEntry> flat_entries(const std::string& name, const Shape& global_shape, int64_t begin,
                                     TensorView data);

}  // namespace cadre::launch
