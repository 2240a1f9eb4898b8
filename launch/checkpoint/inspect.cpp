#include "launch/checkpoint/inspect.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "core/io/hdf5_shard_reader.h"
#include "launch/checkpoint/directory.h"
#include "launch/checkpoint/verify.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

constexpr size_t kValueLength = 100;

std::string shortened(std::string text) {
  if (text.size() > kValueLength)
    text = fmt::format("{}... ({} characters)", text.substr(0, kValueLength), text.size());
  return text;
}

std::string to_text(const nlohmann::json& value) {
  return shortened(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

// Every dataset of a sound shard against the manifest.
std::string problem_of_contents(const fs::path& directory, const Manifest& manifest, int shard) {
  const ManifestFile& file = manifest.files[static_cast<size_t>(shard)];
  try {
    const MappedFile mapped(directory / file.name);
    const ShardReader reader(mapped.bytes(), file.name);
    size_t wanted = 0;
    for (const auto& [name, tensor] : manifest.tensors) {
      for (const ManifestPiece& piece : tensor.pieces) {
        if (piece.shard != shard) continue;
        ++wanted;
        const ShardDataset found = reader.describe(piece.dataset);
        if (found.dtype != tensor.dtype || found.shape != piece.block.extent || found.offset != piece.block.begin ||
            found.global_shape != tensor.shape) {
          return fmt::format("{}{}: is not what the manifest says", file.name, piece.dataset);
        }
      }
    }
    const size_t present = reader.list().size();
    if (present != wanted)
      return fmt::format("{}: holds {} datasets, the manifest says {}", file.name, present, wanted);
  } catch (const CheckpointError& failure) {
    return failure.what();
  }
  return {};
}

void check_one(const fs::path& checkpoint, Inspection& result) {
  const auto say = [&](const std::string& line) { result.text += line + "\n"; };
  const auto complain = [&](const std::string& line) {
    say("  BAD " + line);
    result.ok = false;
  };
  say(checkpoint.string());
  Manifest manifest;
  try {
    manifest = load_manifest(checkpoint);
  } catch (const CheckpointError& failure) {
    complain(failure.what());
    return;
  }
  say(fmt::format("  ok  {}: step {}, {} tensors, {} shards", kManifestName, manifest.header.step,
                  manifest.tensors.size(), manifest.files.size()));
  for (size_t shard = 0; shard < manifest.files.size(); ++shard) {
    const ManifestFile& file = manifest.files[shard];
    std::string problem = problem_of_shard(checkpoint, file);
    if (problem.empty()) problem = problem_of_contents(checkpoint, manifest, static_cast<int>(shard));
    if (!problem.empty()) {
      complain(problem);
    } else {
      say(fmt::format("  ok  {}: {} bytes, XXH3-128 {}", file.name, file.bytes, file.hash));
    }
  }
  for (const std::string& name : unlisted_files(checkpoint, manifest)) complain(name);
}

}  // namespace

Inspection checkpoint_info(const fs::path& checkpoint) {
  const Manifest manifest = load_manifest(checkpoint);
  const CheckpointHeader& header = manifest.header;
  uint64_t elements = 0;
  size_t width = 6;
  for (const auto& [name, tensor] : manifest.tensors) {
    elements += static_cast<uint64_t>(tensor.shape.elements());
    width = std::max(width, name.size());
  }
  Inspection result;
  std::string& text = result.text;
  text += fmt::format("checkpoint   {}\n", checkpoint.string());
  text += fmt::format("run          {}\nstep         {}\nconfig hash  {}\n", header.run_id, header.step,
                      header.config_hash);
  text += fmt::format("written by   {} ranks, {} shards, {} bytes\n", manifest.ranks, manifest.files.size(),
                      manifest.bytes());
  text += fmt::format("tensors      {}, {} elements\n\n", manifest.tensors.size(), elements);
  text += fmt::format("{:{}}  {:5}  {:>14}  {:>6}  {}\n", "tensor", width, "dtype", "bytes", "pieces", "shape");
  for (const auto& [name, tensor] : manifest.tensors) {
    const uint64_t bytes = static_cast<uint64_t>(tensor.shape.elements()) * size_of(tensor.dtype);
    text += fmt::format("{:{}}  {:5}  {:>14}  {:>6}  {}\n", name, width, name_of(tensor.dtype), bytes,
                        tensor.pieces.size(), tensor.shape.to_string());
  }
  text += "\nrun state\n";
  for (const auto& [key, value] : header.state.items()) text += fmt::format("  {}: {}\n", key, to_text(value));
  return result;
}

Inspection checkpoint_check(const fs::path& path) {
  Inspection result;
  std::error_code ignored;
  std::vector<StepDirectory> steps;
  if (!fs::exists(path / kManifestName, ignored)) {
    try {
      steps = list_steps(path);
    } catch (const CheckpointError& failure) {
      return {std::string(failure.what()) + "\n", false};
    }
  }
  for (const StepDirectory& step : steps) check_one(step.path, result);
  if (steps.empty()) check_one(path, result);
  return result;
}

}  // namespace cadre::launch
