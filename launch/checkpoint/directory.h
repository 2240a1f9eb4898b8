#pragma once
// The directory that holds a run's checkpoints, one folder each: step-00000100. Other names in it:
//   step-00000100.tmp         being written, or left by a process that died; never read
//   step-00000100.old-0       the former folder of a step that is being published again; read when nothing newer is
//   valid step-00000100.tmp-delete  being deleted
// One process (rank 0 of one run) changes it at a time.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace cadre::launch {

std::string step_name(int64_t step);
std::filesystem::path temporary_directory_of(const std::filesystem::path& root, int64_t step);

struct StepDirectory {
  std::filesystem::path path;
  int64_t step = 0;
  int set_aside = -1;  // the N of .old-N; -1 for the step's own folder
};

// Every published step, valid or not, newest first; a step's own folder comes before those set aside. Empty when `root`
// does not exist. Throws CheckpointError when it cannot be read.
std::vector<StepDirectory> list_steps(const std::filesystem::path& root);

// Makes an empty folder for a step to be written in; removes what a dead process left in its place.
std::filesystem::path prepare_temporary_directory(const std::filesystem::path& root, int64_t step);

// Renames the complete, synced temporary folder into place, and syncs `root`. A folder of the same step is moved aside
// first and removed afterwards; `between` is called while it is aside (a place for tests to die). Returns the step's
// folder. On failure the former folder is back in its place.
std::filesystem::path publish_directory(const std::filesystem::path& root, int64_t step,
                                        const std::function<void()>& between);

struct Retention {
  int keep = 3;                 // newest valid checkpoints to keep; 0 keeps all
  int64_t permanent_every = 0;  // steps that are multiples of it stay for ever; 0 for none
};

// Deletes what the rule does not keep, and what dead processes left (.tmp, .old-N, .tmp-delete), so no save may be
// under way. A checkpoint counts as valid here when its manifest verifies and every file has its size. The newest valid
// one always stays, and an invalid one goes only when `keep` newer valid ones exist. Returns one line for each thing
// that could not be deleted.
std::vector<std::string> prune(const std::filesystem::path& root, const Retention& retention,
                               int64_t just_published = -1);

}  // namespace cadre::launch
