#include "launch/checkpoint/manifest.h"

#include <fmt/core.h>

#include <cmath>

#include "core/error.h"
#include "core/io/hash.h"

namespace cadre::launch {
namespace {

using Json = nlohmann::json;

Json to_json(const Shape& shape) {
  Json list = Json::array();
  for (int axis = 0; axis < shape.rank(); ++axis) list.push_back(shape[axis]);
  return list;
}

Json to_json(const std::string& name, const ManifestTensor& tensor) {
  Json pieces = Json::array();
  for (const ManifestPiece& piece : tensor.pieces) {
    Json item = {
        {"shard", piece.shard}, {"offset", to_json(piece.block.begin)}, {"shape", to_json(piece.block.extent)}};
    if (piece.dataset != name) item["dataset"] = piece.dataset;
    pieces.push_back(std::move(item));
  }
  return {{"dtype", name_of(tensor.dtype)}, {"shape", to_json(tensor.shape)}, {"pieces", std::move(pieces)}};
}

Json to_json(const ManifestFile& file) { return {{"name", file.name}, {"bytes", file.bytes}, {"xxh3_128", file.hash}}; }

// JSON has no such numbers: they would come back as null.
void refuse_non_finite(const Json& value, const std::string& where) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    throw CheckpointError(
        fmt::format("run state {}: {} cannot be saved, a finite number is wanted", where, value.get<double>()));
  }
  if (!value.is_structured()) return;
  for (const auto& [key, item] : value.items()) refuse_non_finite(item, where + "/" + key);
}

}  // namespace

uint64_t Manifest::bytes() const {
  uint64_t sum = 0;
  for (const ManifestFile& file : files) sum += file.bytes;
  return sum;
}

std::string shard_name(int shard, int shards) { return fmt::format("shard-{:05d}-of-{:05d}.h5", shard, shards); }

Json contents_to_json(const Manifest& manifest) {
  Json files = Json::array();
  for (const ManifestFile& file : manifest.files) files.push_back(to_json(file));
  Json tensors = Json::object();
  for (const auto& [name, tensor] : manifest.tensors) tensors[name] = to_json(name, tensor);
  return {{"files", std::move(files)}, {"tensors", std::move(tensors)}};
}

std::string seal_manifest(std::string_view body) {
  return fmt::format("{{\"manifest_xxh3_128\":\"{}\",\n{}", xxh3_128(bytes_of(body)), body);
}

// One line per file and tensor: people read it, and line tools work on it.
std::string write_manifest(const Manifest& manifest) {
  const CheckpointHeader& header = manifest.header;
  if (!header.state.is_object()) throw CheckpointError("the run state must be a JSON object");
  refuse_non_finite(header.state, "");
  try {
    std::string body = fmt::format("\"format\":\"cadre-checkpoint\",\n\"version\":{},\n\"run_id\":{},\n\"step\":{},\n",
                                   kManifestVersion, Json(header.run_id).dump(), header.step);
    body +=
        fmt::format("\"config_hash\":{},\n\"ranks\":{},\n\"files\":[", Json(header.config_hash).dump(), manifest.ranks);
    const char* separator = "\n";
    for (const ManifestFile& file : manifest.files) {
      body += separator + to_json(file).dump();
      separator = ",\n";
    }
    body += "],\n\"tensors\":{";
    separator = "\n";
    for (const auto& [name, tensor] : manifest.tensors) {
      body += separator + Json(name).dump() + ":" + to_json(name, tensor).dump();
      separator = ",\n";
    }
    body += "},\n\"state\":" + header.state.dump() + "}\n";
    return seal_manifest(body);
  } catch (const Json::exception& failure) {
    throw CheckpointError(fmt::format("the run state cannot be written: {}", failure.what()));
  }
}

}  // namespace cadre::launch
