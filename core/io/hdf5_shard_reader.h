#pragma once
// Reads an HDF5 file image in place. The caller has checked the image's hash: HDF5 must never see bytes that nobody
// vouches for (damaged files crash or hang it).

#include <memory>
#include <string>
#include <vector>

#include "core/io/hdf5_shard_writer.h"
#include "core/tensor.h"

namespace cadre {

// A box of a tensor: `extent` elements along each axis from `begin`.
struct Block {
  Shape begin;
  Shape extent;
};

class ShardReader {
 public:
  // `image` is neither copied nor written and must outlive the reader; `label` (the file's path) goes into errors.
  ShardReader(Bytes image, std::string label);
  ~ShardReader();
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  // What the dataset is, `data` left null. Throws CheckpointError naming the file and the dataset when it is absent or
  // is not one that ShardWriter makes.
  ShardDataset describe(const std::string& path) const;
  // Every dataset's path, sorted.
  std::vector<std::string> list() const;

  // Copies `block` of the dataset into `out` at `out_begin`; `out` has the dataset's dtype and rank, and may have a row
  // stride.
  void read(const std::string& path, const Block& block, TensorView out, const Shape& out_begin) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cadre
