#include "launch/checkpoint/verify.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "core/io/hash.h"
#include "launch/checkpoint/directory.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

std::string problem_of_size(const fs::path& directory, const ManifestFile& file) {
  std::error_code failure;
  const fs::path path = directory / file.name;
  const fs::file_status status = fs::status(path, failure);
  if (status.type() == fs::file_type::not_found) return fmt::format("{}: is missing", file.name);
  if (!fs::is_regular_file(status)) return fmt::format("{}: is not a regular file", file.name);
  const uintmax_t bytes = fs::file_size(path, failure);
  if (failure) return fmt::format("{}: {}", file.name, failure.message());
  if (bytes != file.bytes) return fmt::format("{}: has {} bytes, the manifest says {}", file.name, bytes, file.bytes);
  return {};
}

std::vector<std::string> problems_of_sizes(const fs::path& directory, const Manifest& manifest) {
  std::vector<std::string> problems = unlisted_files(directory, manifest);
  for (const ManifestFile& file : manifest.files) {
    std::string problem = problem_of_size(directory, file);
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  return problems;
}

// The step that the folder's name claims; -1 when it is not named like a step.
int64_t claimed_step(const fs::path& directory) {
  const fs::path clean = directory.has_filename() ? directory : directory.parent_path();
  const std::string name = clean.filename().string();
  for (size_t digits = 0; name.starts_with("step-") && digits <= 18; ++digits) {
    const std::string number = name.substr(5, digits);
    if (number.size() != digits || number.find_first_not_of("0123456789") != std::string::npos) break;
    const bool ends = name.size() == 5 + digits || name[5 + digits] == '.';
    if (digits >= 8 && ends) return std::stoll(number);
  }
  return -1;
}

}  // namespace

Manifest load_manifest(const fs::path& directory) {
  const fs::path path = directory / kManifestName;
  const std::string text = read_file(path, kManifestBytes);
  Manifest manifest;
  try {
    manifest = parse_manifest(text);
  } catch (const CheckpointError& problem) {
    throw CheckpointError(fmt::format("{}: {}", path.string(), problem.what()));
  }
  const int64_t claimed = claimed_step(directory);
  if (claimed >= 0 && claimed != manifest.header.step) {
    throw CheckpointError(
        fmt::format("{}: is of step {}, the folder's name says {}", path.string(), manifest.header.step, claimed));
  }
  return manifest;
}

std::vector<std::string> unlisted_files(const fs::path& directory, const Manifest& manifest) {
  std::vector<std::string> problems;
  std::error_code failure;
  fs::directory_iterator position(directory, failure);
  for (; !failure && position != fs::directory_iterator(); position.increment(failure)) {
    const std::string name = position->path().filename().string();
    const bool listed = std::any_of(manifest.files.begin(), manifest.files.end(),
                                    [&](const ManifestFile& file) { return file.name == name; });
    if (!listed && name != kManifestName) problems.push_back(fmt::format("{}: is not in the manifest", name));
  }
  if (failure) problems.push_back(fmt::format("cannot list {}: {}", directory.string(), failure.message()));
  std::sort(problems.begin(), problems.end());
  return problems;
}

void check_sizes(const fs::path& directory, const Manifest& manifest) {
  const std::vector<std::string> problems = problems_of_sizes(directory, manifest);
  if (!problems.empty()) throw CheckpointError(fmt::format("{}/{}", directory.string(), problems.front()));
}

std::string problem_of_shard(const fs::path& directory, const ManifestFile& file) {
  std::string problem = problem_of_size(directory, file);
  if (!problem.empty()) return problem;
  try {
    const std::string found = xxh3_128_of_file(directory / file.name);
    if (found != file.hash)
      return fmt::format("{}: is damaged: XXH3-128 {}, the manifest says {}", file.name, found, file.hash);
  } catch (const CheckpointError& failure) {
    return fmt::format("{}: {}", file.name, failure.what());
  }
  return {};
}

std::vector<std::string> verify_files(const fs::path& directory, const Manifest& manifest, int member, int members) {
  std::vector<std::string> problems = problems_of_sizes(directory, manifest);
  if (!problems.empty()) return problems;
  for (size_t shard = static_cast<size_t>(member); shard < manifest.files.size();
       shard += static_cast<size_t>(members)) {
    std::string problem = problem_of_shard(directory, manifest.files[shard]);
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  return problems;
}

}  // namespace cadre::launch
