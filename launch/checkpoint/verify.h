#pragma once
// Whether a checkpoint is what its manifest says. No file is opened with HDF5 here.

#include <filesystem>
#include <string>
#include <vector>

#include "launch/checkpoint/manifest.h"

namespace cadre::launch {

// The directory's manifest, verified. A folder that is named like a step must hold that step. Throws CheckpointError
// beginning with the manifest's path.
Manifest load_manifest(const std::filesystem::path& directory);

// "<name>: is not in the manifest" for each such file of the folder, sorted.
std::vector<std::string> unlisted_files(const std::filesystem::path& directory, const Manifest& manifest);

// Every listed file is there with its exact size, and nothing else is. Throws CheckpointError naming the first that is
// not.
void check_sizes(const std::filesystem::path& directory, const Manifest& manifest);

// Size and hash of one shard; an empty string when it is sound, else one line "<file name>: why".
std::string problem_of_shard(const std::filesystem::path& directory, const ManifestFile& file);

// Checks names and sizes of all files, and the hashes of those that fall to this member (shard % members). One line for
// each problem; empty when all is well.
std::vector<std::string> verify_files(const std::filesystem::path& directory, const Manifest& manifest, int member = 0,
                                      int members = 1);

}  // namespace cadre::launch
