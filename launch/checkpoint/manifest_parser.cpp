#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "core/io/hash.h"
#include "launch/checkpoint/manifest.h"

namespace cadre::launch {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kHashKey = "{\"manifest_xxh3_128\":\"";
constexpr size_t kHashDigits = 32;
constexpr int kDepth = 64;
constexpr int64_t kElements = int64_t{1} << 56;  // of one tensor
constexpr int kShards = 99999;                   // what a shard's name can count

[[noreturn]] void reject(const std::string& why) { throw CheckpointError(why); }

std::string_view verified_body(std::string_view text) {
  if (text.size() > kManifestBytes)
    reject(fmt::format("has {} bytes, at most {} are allowed", text.size(), kManifestBytes));
  const size_t body = kHashKey.size() + kHashDigits + 3;
  if (text.size() < body || text.substr(0, kHashKey.size()) != kHashKey || text.substr(body - 3, 3) != "\",\n") {
    reject("does not begin with its hash");
  }
  const std::string found = xxh3_128(bytes_of(text.substr(body)));
  if (found != text.substr(kHashKey.size(), kHashDigits)) reject("is damaged: its hash does not match");
  return text.substr(body);
}

const Json& member(const Json& object, const char* key, Json::value_t type) {
  if (!object.is_object()) reject(fmt::format("an object with '{}' was wanted", key));
  const auto found = object.find(key);
  if (found == object.end()) reject(fmt::format("key '{}' is missing", key));
  if (found->type() != type) reject(fmt::format("key '{}' is a {}, which was not wanted", key, found->type_name()));
  return *found;
}

const std::string& text_of(const Json& object, const char* key) {
  return member(object, key, Json::value_t::string).get_ref<const std::string&>();
}

uint64_t number_of(const Json& object, const char* key, uint64_t limit) {
  const uint64_t value = member(object, key, Json::value_t::number_unsigned).get<uint64_t>();
  if (value > limit) reject(fmt::format("key '{}' is {}, at most {} is possible", key, value, limit));
  return value;
}

Shape shape_of(const Json& object, const char* key) {
  const Json& list = member(object, key, Json::value_t::array);
  if (list.size() > Shape::kMaxRank) reject(fmt::format("key '{}' has {} axes", key, list.size()));
  std::array<int64_t, Shape::kMaxRank> extents{};
  for (size_t axis = 0; axis < list.size(); ++axis) {
    if (!list[axis].is_number_unsigned() || list[axis].get<uint64_t>() > static_cast<uint64_t>(kElements)) {
      reject(fmt::format("key '{}' has an axis that is not an extent", key));
    }
    extents[axis] = list[axis].get<int64_t>();
  }
  switch (list.size()) {
    case 0: return {};
    case 1: return {extents[0]};
    case 2: return {extents[0], extents[1]};
    case 3: return {extents[0], extents[1], extents[2]};
    default: return {extents[0], extents[1], extents[2], extents[3]};
  }
}

Dtype dtype_of(const std::string& text) {
  for (int index = 0; index <= static_cast<int>(Dtype::kU8); ++index) {
    if (name_of(static_cast<Dtype>(index)) == text) return static_cast<Dtype>(index);
  }
  reject(fmt::format("unknown dtype '{}'", text));
}

ManifestFile file_from(const Json& json) {
  ManifestFile file;
  file.name = text_of(json, "name");
  file.bytes = number_of(json, "bytes", uint64_t{1} << 62);
  file.hash = text_of(json, "xxh3_128");
  if (file.hash.size() != kHashDigits) reject(fmt::format("file '{}': a hash has {} digits", file.name, kHashDigits));
  return file;
}

ManifestTensor tensor_from(const std::string& name, const Json& json) {
  if (!is_tensor_name(name)) reject(fmt::format("'{}' is not a tensor name", name));
  ManifestTensor tensor;
  tensor.dtype = dtype_of(text_of(json, "dtype"));
  tensor.shape = shape_of(json, "shape");
  for (const Json& item : member(json, "pieces", Json::value_t::array)) {
    ManifestPiece piece;
    piece.shard = static_cast<int>(number_of(item, "shard", kShards));
    piece.block = {shape_of(item, "offset"), shape_of(item, "shape")};
    piece.dataset = item.contains("dataset") ? text_of(item, "dataset") : name;
    if (!is_tensor_name(piece.dataset)) reject(fmt::format("'{}' is not a dataset's path", piece.dataset));
    tensor.pieces.push_back(std::move(piece));
  }
  return tensor;
}

bool overlap(const Block& a, const Block& b) {
  for (int axis = 0; axis < a.begin.rank(); ++axis) {
    if (a.begin[axis] + a.extent[axis] <= b.begin[axis] || b.begin[axis] + b.extent[axis] <= a.begin[axis])
      return false;
  }
  return true;
}

// The product of the extents, -1 past the limit.
int64_t bounded_elements(const Shape& shape) {
  int64_t product = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (__builtin_mul_overflow(product, shape[axis], &product) || product > kElements) return -1;
  }
  return product;
}

void check_no_overlap(const std::string& name, std::vector<const Block*>& blocks) {
  if (blocks.size() < 2) return;
  if (blocks[0]->begin.rank() == 0) reject(fmt::format("{}: a scalar is saved twice", name));
  std::sort(blocks.begin(), blocks.end(), [](const Block* a, const Block* b) { return a->begin[0] < b->begin[0]; });
  for (size_t i = 0; i < blocks.size(); ++i) {
    const int64_t end = blocks[i]->begin[0] + blocks[i]->extent[0];
    for (size_t j = i + 1; j < blocks.size() && blocks[j]->begin[0] < end; ++j) {
      if (!overlap(*blocks[i], *blocks[j])) continue;
      reject(fmt::format("{}: pieces {} at {} and {} at {} overlap", name, blocks[i]->extent.to_string(),
                         blocks[i]->begin.to_string(), blocks[j]->extent.to_string(), blocks[j]->begin.to_string()));
    }
  }
}

Manifest parse_body(const Json& json) {
  if (text_of(json, "format") != "cadre-checkpoint") reject("is not a checkpoint's manifest");
  const uint64_t version = number_of(json, "version", UINT64_MAX);
  if (version != kManifestVersion) {
    reject(fmt::format("has format version {}; this program reads version {}", version, kManifestVersion));
  }
  Manifest manifest;
  manifest.header.run_id = text_of(json, "run_id");
  manifest.header.step = static_cast<int64_t>(number_of(json, "step", uint64_t{1} << 62));
  manifest.header.config_hash = text_of(json, "config_hash");
  manifest.header.state = member(json, "state", Json::value_t::object);
  manifest.ranks = static_cast<int>(number_of(json, "ranks", 1 << 30));
  contents_from_json(json, manifest);
  const int shards = static_cast<int>(manifest.files.size());
  for (int shard = 0; shard < shards; ++shard) {
    const std::string& name = manifest.files[static_cast<size_t>(shard)].name;
    if (name != shard_name(shard, shards)) {
      reject(fmt::format("lists '{}' where '{}' was wanted", name, shard_name(shard, shards)));
    }
  }
  for (const auto& [name, tensor] : manifest.tensors) {
    check_coverage(name, tensor);
    for (const ManifestPiece& piece : tensor.pieces) {
      if (piece.shard >= shards) reject(fmt::format("{}: shard {} of {}", name, piece.shard, shards));
    }
  }
  return manifest;
}

}  // namespace

void contents_from_json(const Json& json, Manifest& manifest) {
  const Json& files = member(json, "files", Json::value_t::array);
  if (files.size() > kShards) reject(fmt::format("{} shards, at most {} are possible", files.size(), kShards));
  for (const Json& item : files) manifest.files.push_back(file_from(item));
  for (const auto& [name, item] : member(json, "tensors", Json::value_t::object).items()) {
    ManifestTensor part = tensor_from(name, item);
    const auto [found, fresh] = manifest.tensors.try_emplace(name, part);
    if (fresh) continue;
    ManifestTensor& tensor = found->second;
    if (tensor.dtype != part.dtype || tensor.shape != part.shape) {
      reject(fmt::format("{}: is {} {} on one rank and {} {} on another", name, name_of(tensor.dtype),
                         tensor.shape.to_string(), name_of(part.dtype), part.shape.to_string()));
    }
    tensor.pieces.insert(tensor.pieces.end(), part.pieces.begin(), part.pieces.end());
  }
}

void check_coverage(const std::string& name, const ManifestTensor& tensor) {
  const int64_t wanted = bounded_elements(tensor.shape);
  if (wanted < 0) reject(fmt::format("{}: {} has too many elements", name, tensor.shape.to_string()));
  int64_t found = 0;
  std::vector<const Block*> blocks;
  for (const ManifestPiece& piece : tensor.pieces) {
    const Block& block = piece.block;
    bool fits = block.begin.rank() == tensor.shape.rank() && block.extent.rank() == tensor.shape.rank();
    for (int axis = 0; fits && axis < tensor.shape.rank(); ++axis) {
      fits = block.begin[axis] + block.extent[axis] <= tensor.shape[axis];
    }
    if (!fits) {
      reject(fmt::format("{}: a piece {} at {} is outside {}", name, block.extent.to_string(), block.begin.to_string(),
                         tensor.shape.to_string()));
    }
    const int64_t elements = bounded_elements(block.extent);
    if (elements == 0) continue;
    found = std::min(kElements, found) + elements;
    blocks.push_back(&block);
  }
  check_no_overlap(name, blocks);
  if (found != wanted || tensor.pieces.empty()) {
    reject(fmt::format("{}: the pieces hold {} elements of {}", name, found, wanted));
  }
}

Manifest parse_manifest(std::string_view text) {
  const std::string_view body = verified_body(text);
  try {
    const auto bounded = [](int depth, Json::parse_event_t, Json&) {
      if (depth > kDepth) reject(fmt::format("is nested more than {} deep", kDepth));
      return true;
    };
    return parse_body(Json::parse("{" + std::string(body), bounded));
  } catch (const Json::exception& failure) {
    throw CheckpointError(fmt::format("is not the JSON that was wanted: {}", failure.what()));
  }
}

}  // namespace cadre::launch
