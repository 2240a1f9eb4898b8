#pragma once
// Which checkpoint a run starts from.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace cadre::launch {

enum class ResumePolicy {
  kAuto,   // the newest valid checkpoint; a fresh start only when none was ever published here
  kMust,   // the newest valid checkpoint, or an error
  kNever,  // a fresh start
  kPath,   // this one, or an error
};

struct ResumeRequest {
  ResumePolicy policy = ResumePolicy::kAuto;
  std::filesystem::path path;  // with kPath: a checkpoint, or a directory of them (the newest valid one)
};

// "auto", "must", "never"; anything else is a path.
ResumeRequest parse_resume(const std::string& text);

struct ResumeChoice {
  std::optional<std::filesystem::path> checkpoint;  // none: start fresh
  std::vector<std::string> skipped;                 // one line for each newer one that was passed over, saying why
};

// Collective: every rank gets the same choice, or the same CheckpointError. Rank 0 lists the candidates; all ranks see
// and verify them, sharing out the hashing, so a checkpoint counts only when every rank can read it.
ResumeChoice choose_checkpoint(const std::filesystem::path& directory, const ResumeRequest& request,
                               parallel::Communicator& communicator);

}  // namespace cadre::launch
