#pragma once
// Builds an HDF5 file in memory. HDF5 gives no crash safety of its own (it never syncs, and opens half-written files
// without complaint), so the image is made here, hashed as a whole, and written by core/io/file.h.
//
// Equal datasets give equal bytes: no times are stored, and the library's default format versions are used.

#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/io/file.h"
#include "core/memory/allocator.h"
#include "core/shape.h"

namespace cadre {

// A block of a tensor, as one dataset. `path` is its name in the file, "/model/layers.3.moe.experts.17.w1": groups and
// all. Attributes `global_shape` and `offset` (int64[rank]) and `dtype` (text) say what it is a block of.
struct ShardDataset {
  std::string path;
  Dtype dtype = Dtype::kF32;
  Shape shape;
  Shape global_shape;
  Shape offset;
  const void* data = nullptr;  // contiguous, row-major
};

class ShardWriter {
 public:
  // The image's memory comes from `allocator` once and is used again by later builds.
  explicit ShardWriter(Allocator& allocator);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // The complete file, valid until the next build or the writer's end. Throws CheckpointError naming the dataset.
  Bytes build(const std::vector<ShardDataset>& datasets);

  // No image is larger than the sum of its datasets' bytes, each plus this much, plus kFileOverhead.
  static constexpr size_t kDatasetOverhead = 2048;
  static constexpr size_t kFileOverhead = 16384;

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

}  // namespace cadre
