#pragma once
// manifest.json: what a checkpoint is, and what every file of it must be. A checkpoint counts only if its manifest
// verifies.
//
// The file is one JSON object. Its first line is `{"manifest_xxh3_128":"<32 hexadecimal digits>",` and the digits are
// the XXH3-128 hash of everything after that line, so that damage anywhere in it is noticed before anything in it is
// believed. See docs/formats.md for the keys.

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "launch/checkpoint/state.h"

namespace cadre::launch {

inline constexpr int kManifestVersion = 1;
inline constexpr const char* kManifestName = "manifest.json";
inline constexpr uint64_t kManifestBytes = uint64_t{256} << 20;  // longer ones are refused

struct ManifestFile {
  std::string name;
  uint64_t bytes = 0;
  std::string hash;  // XXH3-128
};

struct ManifestPiece {
  int shard = 0;        // index into files
  std::string dataset;  // its path in that file
  Block block;          // in the global tensor
};

struct ManifestTensor {
  Dtype dtype = Dtype::kF32;
  Shape shape;
  std::vector<ManifestPiece> pieces;
};

// Who, when (in steps) and everything small: data position, random counters, loss scale, step counts of segments, the
// text of the config. `state` is an object of finite numbers, text, lists and objects.
struct CheckpointHeader {
  std::string run_id;
  int64_t step = 0;
  std::string config_hash;
  nlohmann::json state = nlohmann::json::object();
};

struct Manifest {
  CheckpointHeader header;
  int ranks = 1;  // that wrote it
  std::vector<ManifestFile> files;
  std::map<std::string, ManifestTensor> tensors;

  uint64_t bytes() const;  // of all shards
};

// "shard-00003-of-00010.h5"
std::string shard_name(int shard, int shards);

// The manifest's text. Throws CheckpointError when the state cannot be written exactly (a number that is not finite,
// text that is not UTF-8).
std::string write_manifest(const Manifest& manifest);
// Puts the hash line before a body; for tests and fuzzers that make bodies of their own.
std::string seal_manifest(std::string_view body);

// Throws CheckpointError, and nothing else, on any text that is not a valid manifest: hash, version, types, bounds,
// shards named otherwise than shard_name says, tensors whose pieces overlap or leave gaps. Work is bounded by the
// text's length.
Manifest parse_manifest(std::string_view text);

// The list of files and tensors alone; how ranks tell rank 0 what they wrote.
nlohmann::json contents_to_json(const Manifest& manifest);
void contents_from_json(const nlohmann::json& json, Manifest& manifest);

// Throws CheckpointError naming the tensor when pieces are outside it, overlap or leave gaps.
void check_coverage(const std::string& name, const ManifestTensor& tensor);

}  // namespace cadre::launch
