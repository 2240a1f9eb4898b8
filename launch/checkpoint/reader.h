#pragma once
// Reads any block of any tensor of a checkpoint, whoever wrote it.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/source.h"

namespace cadre::launch {

// For one thread. Shards are mapped on first use; each is hashed then, before HDF5 sees it.
class CheckpointReader final : public StateSource {
 public:
  // Throws CheckpointError when the manifest does not verify.
  explicit CheckpointReader(std::filesystem::path directory);
  ~CheckpointReader() override;
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  const std::filesystem::path& directory() const;
  const Manifest& manifest() const;
  std::string where() const override { return directory().string(); }
  const nlohmann::json& scalars() const override { return manifest().header.state; }
  bool has(const std::string& name) const override;
  Shape shape_of(const std::string& name) const override { return tensor(name).shape; }
  Dtype dtype_of(const std::string& name) const override { return tensor(name).dtype; }
  // Throws CheckpointError naming the tensor, and the nearest name that exists.
  const ManifestTensor& tensor(const std::string& name) const;

  // Fills `out` with the block of out.shape from `offset`; rows may be strided. Throws CheckpointError when the tensor
  // is missing, has another dtype or rank, the block is outside it, or a shard is damaged.
  void read(const std::string& name, const Shape& offset, TensorView out);
  // A whole tensor; its shape must be out's.
  void read(const std::string& name, TensorView out) override;
  // Elements of the flattened tensor from `begin`; `out` is contiguous.
  void read_flat(const std::string& name, int64_t begin, TensorView out) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cadre::launch
