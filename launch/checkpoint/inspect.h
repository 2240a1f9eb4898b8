#pragma once
// `cadre checkpoint info|check|diff`: text for people, and whether all is well.

#include <filesystem>
#include <string>

namespace cadre::launch {

struct Inspection {
  std::string text;  // lines, each ended
  bool ok = true;
};

// Run, step, sizes, every tensor with shape, dtype, bytes and pieces, and the run state. Believes the manifest's own
// hash and reads no shard. Throws CheckpointError when there is no valid manifest.
Inspection checkpoint_info(const std::filesystem::path& checkpoint);

// Verifies everything, one line per file: manifest, sizes, hashes, and that every dataset is what the manifest says.
// `path` is a checkpoint or a directory of them. Not ok when anything is wrong; problems never throw.
Inspection checkpoint_check(const std::filesystem::path& path);

// Compares two checkpoints, however they are sharded: "identical" when every tensor agrees bit for bit and the run
// states agree; else one line for each difference: for tensors the number of elements whose bits differ and the largest
// absolute difference. The run's id, the ranks that wrote it, and the state's keys run_id and time do not count. Ok
// means identical.
Inspection checkpoint_diff(const std::filesystem::path& first, const std::filesystem::path& second);

}  // namespace cadre::launch
