#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "launch/checkpoint/directory.h"
#include "launch/checkpoint/inspect.h"
#include "launch/cli/commands.h"

namespace cadre::launch {
namespace {

int print(const Inspection& inspection) {
  std::fputs(inspection.text.c_str(), stdout);
  return inspection.ok ? 0 : static_cast<int>(ExitCode::kCheckpoint);
}

// A run's directory stands for its checkpoints.
std::filesystem::path checkpoints_of(const std::filesystem::path& path) {
  const std::filesystem::path nested = path / "checkpoints";
  return std::filesystem::is_directory(nested) ? nested : path;
}

// A directory of checkpoints stands for its newest.
std::filesystem::path one_checkpoint(const std::filesystem::path& path) {
  const std::filesystem::path directory = checkpoints_of(path);
  const std::vector<StepDirectory> steps = list_steps(directory);
  return steps.empty() ? directory : steps.front().path;
}

}  // namespace

int command_checkpoint_info(const std::string& path) { return print(checkpoint_info(one_checkpoint(path))); }
int command_checkpoint_check(const std::string& path) { return print(checkpoint_check(checkpoints_of(path))); }

int command_checkpoint_diff(const std::string& first, const std::string& second) {
  return print(checkpoint_diff(one_checkpoint(first), one_checkpoint(second)));
}

}  // namespace cadre::launch
