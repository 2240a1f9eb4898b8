#pragma once
// Saves checkpoints in the background.
//
// Protocol: every rank writes its shards into step-XXXXXXXX.tmp and syncs them; when all are done, rank 0 writes
// manifest.json, syncs it and the folder, renames the folder to step-XXXXXXXX, and syncs the parent. Killed at any
// instant, the directory holds the previous checkpoint, and holds the new one only if it is complete. A failure on any
// rank (full disk, vanished directory, ...) is an error with the same text on every rank; the unfinished folder is
// removed and training may go on.
//
// begin() and publish() are collective and talk; the background thread never does, so it cannot get in the way of
// training's collectives. A trainer calls
//     if (time to save && !writer.busy()) writer.begin(header, entries);
//     ... a step; its usual all_reduce also carries min over ranks of writer.locally_done() ...
//     if (writer.busy() && all ranks are done) writer.publish();
// Memory: one snapshot of the rank's entries and the image of one shard, both kept for the next save.

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "core/memory/allocator.h"
#include "launch/checkpoint/manifest.h"
#include "parallel/comm/communicator.h"

namespace cadre::launch {

enum class SavePhase {
  kShardHalfWritten,  // on the background thread
  kShardsWritten,     // on the background thread: this rank's are complete and synced
  kManifestHalfWritten,
  kManifestWritten,  // complete and synced, not published
  kSetAside,         // a former folder of this step, if there was one, is out of the way
  kPublished,
};

// For tests: called at every phase that a rank passes.
struct CheckpointHooks {
  std::function<void(SavePhase)> at;
};

struct CheckpointOptions {
  std::filesystem::path directory;             // holds the step folders; created when missing
  uint64_t shard_bytes = uint64_t{256} << 20;  // largest file
  CheckpointHooks hooks;
};

struct SaveReport {
  std::filesystem::path directory;  // the published folder
  int64_t step = 0;
  uint64_t bytes = 0;           // of all ranks' shards
  double snapshot_seconds = 0;  // training stood still, this rank
  double write_seconds = 0;     // in the background, this rank
  double publish_seconds = 0;   // training stood still, this rank
};

class CheckpointWriter {
 public:
  // The communicator and the allocator must outlive the writer. Every rank makes one, with the same directory on a file
  // system that all share.
  CheckpointWriter(CheckpointOptions options, parallel::Communicator& communicator, Allocator& allocator);
  ~CheckpointWriter();  // waits for this rank's writing; publishes nothing

  // Collective. Copies the entries and starts to write them. The header counts on rank 0; the step must be the same
  // everywhere. Throws CheckpointError on every rank when any of them cannot begin. Not while busy().
  void begin(const CheckpointHeader& header, const std::vector<StateEntry>& entries);
  // Between begin() and publish(); the same on every rank.
  bool busy() const;
  // True when this rank has written its part, or failed to, or there is nothing to do. Never blocks.
  bool locally_done() const;
  // Collective. Waits for this rank's part when it is not done. Throws CheckpointError on every rank when any of them
  // failed.
  SaveReport publish();
  // begin() and publish().
  SaveReport save(const CheckpointHeader& header, const std::vector<StateEntry>& entries);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cadre::launch
