#include "launch/checkpoint/reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/io/hash.h"
#include "launch/checkpoint/verify.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

struct OpenShard {
  explicit OpenShard(const fs::path& path, const ManifestFile& listed) : file(path) {
    if (file.bytes().size() != listed.bytes) {
      throw CheckpointError(
          fmt::format("{}: has {} bytes, the manifest says {}", path.string(), file.bytes().size(), listed.bytes));
    }
    const std::string found = xxh3_128(file.bytes());
    if (found != listed.hash) {
      throw CheckpointError(
          fmt::format("{}: is damaged: XXH3-128 {}, the manifest says {}", path.string(), found, listed.hash));
    }
    reader = std::make_unique<ShardReader>(file.bytes(), path.string());
  }

  MappedFile file;
  std::unique_ptr<ShardReader> reader;
};

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

bool intersect(const Block& a, const Block& b, Block& common) {
  common = a;
  for (int axis = 0; axis < a.begin.rank(); ++axis) {
    const int64_t begin = std::max(a.begin[axis], b.begin[axis]);
    const int64_t end = std::min(a.begin[axis] + a.extent[axis], b.begin[axis] + b.extent[axis]);
    if (begin >= end) return false;
    common.begin = common.begin.with(axis, begin);
    common.extent = common.extent.with(axis, end - begin);
  }
  return true;
}

Shape minus(Shape a, const Shape& b) {
  for (int axis = 0; axis < a.rank(); ++axis) a = a.with(axis, a[axis] - b[axis]);
  return a;
}

}  // namespace

struct CheckpointReader::State {
  fs::path directory;
  Manifest manifest;
  std::vector<std::unique_ptr<OpenShard>> shards;

  const ShardReader& shard(int index) {
    std::unique_ptr<OpenShard>& slot = shards[static_cast<size_t>(index)];
    if (!slot) {
      const ManifestFile& listed = manifest.files[static_cast<size_t>(index)];
      slot = std::make_unique<OpenShard>(directory / listed.name, listed);
    }
    return *slot->reader;
  }

  // The manifest and the shard were written together, but by other hands than those that wrote the hash of the shard.
  void check_dataset(const std::string& name, const ManifestTensor& tensor, const ManifestPiece& piece) {
    const ShardDataset found = shard(piece.shard).describe(piece.dataset);
    if (found.dtype != tensor.dtype || found.shape != piece.block.extent || found.global_shape != tensor.shape ||
        found.offset != piece.block.begin) {
      throw CheckpointError(fmt::format("{}/{}{}: is {} {} at {} of {}, the manifest says otherwise for {}",
                                        directory.string(), manifest.files[static_cast<size_t>(piece.shard)].name,
                                        piece.dataset, name_of(found.dtype), found.shape.to_string(),
                                        found.offset.to_string(), found.global_shape.to_string(), name));
    }
  }
};

CheckpointReader::CheckpointReader(fs::path directory) : state_(std::make_unique<State>()) {
  state_->directory = std::move(directory);
  state_->manifest = load_manifest(state_->directory);
  state_->shards.resize(state_->manifest.files.size());
}

CheckpointReader::~CheckpointReader() = default;

const fs::path& CheckpointReader::directory() const { return state_->directory; }
const Manifest& CheckpointReader::manifest() const { return state_->manifest; }
bool CheckpointReader::has(const std::string& name) const { return state_->manifest.tensors.contains(name); }

const ManifestTensor& CheckpointReader::tensor(const std::string& name) const {
  const auto& tensors = state_->manifest.tensors;
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  const auto nearest = std::min_element(tensors.begin(), tensors.end(), [&](const auto& a, const auto& b) {
    return edit_distance(a.first, name) < edit_distance(b.first, name);
  });
  const std::string hint =
      nearest == tensors.end() ? "it holds no tensor" : fmt::format("nearest is {}", nearest->first);
  throw CheckpointError(fmt::format("{}: has no tensor {}; {}", state_->directory.string(), name, hint));
}

void CheckpointReader::read(const std::string& name, const Shape& offset, TensorView out) {
  const ManifestTensor& wanted = tensor(name);
  if (wanted.dtype != out.dtype) {
    throw CheckpointError(fmt::format("{}: {} is {}, {} was wanted", state_->directory.string(), name,
                                      name_of(wanted.dtype), name_of(out.dtype)));
  }
  const Block block{offset, out.shape};
  bool inside = offset.rank() == wanted.shape.rank() && out.shape.rank() == wanted.shape.rank();
  for (int axis = 0; inside && axis < wanted.shape.rank(); ++axis) {
    inside = offset[axis] >= 0 && offset[axis] + out.shape[axis] <= wanted.shape[axis];
  }
  if (!inside) {
    throw CheckpointError(fmt::format("{}: {} is {}, the block {} at {} was wanted", state_->directory.string(), name,
                                      wanted.shape.to_string(), out.shape.to_string(), offset.to_string()));
  }
  if (out.shape.elements() == 0) return;
  for (const ManifestPiece& piece : wanted.pieces) {
    Block common;
    if (piece.block.extent.elements() == 0 || !intersect(piece.block, block, common)) continue;
    state_->check_dataset(name, wanted, piece);
    const Block local{minus(common.begin, piece.block.begin), common.extent};
    state_->shard(piece.shard).read(piece.dataset, local, out, minus(common.begin, offset));
  }
}

void CheckpointReader::read(const std::string& name, TensorView out) {
  const Shape& shape = tensor(name).shape;
  if (shape != out.shape) {
    throw CheckpointError(fmt::format("{}: {} is {}, {} was wanted", state_->directory.string(), name,
                                      shape.to_string(), out.shape.to_string()));
  }
  Shape zero = shape;
  for (int axis = 0; axis < zero.rank(); ++axis) zero = zero.with(axis, 0);
  read(name, zero, out);
}

void CheckpointReader::read_flat(const std::string& name, int64_t begin, TensorView out) {
  const Shape shape = tensor(name).shape;
  if (begin < 0 || begin + out.shape.elements() > shape.elements()) {
    throw CheckpointError(fmt::format("{}: {} has {} elements, {}..{} were wanted", state_->directory.string(), name,
                                      shape.elements(), begin, begin + out.shape.elements()));
  }
  for (const StateEntry& part : flat_entries(name, shape, begin, out)) read(name, part.offset, part.data);
}

}  // namespace cadre::launch
