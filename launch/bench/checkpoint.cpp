#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "kernels/elementwise.h"
#include "launch/bench/bench.h"
#include "launch/bench/peer_case.h"
#include "launch/bench/scratch_directory.h"
#include "launch/bench/timing.h"
#include "launch/checkpoint/writer.h"
#include "parallel/comm/self.h"

namespace cadre::launch {
namespace {

constexpr uint64_t kSaveBytes = 1000000000;
constexpr double kTrainingSeconds = 60;  // in which one save is to be hidden

// The peer case's state, and as much again as makes a checkpoint of kSaveBytes.
std::vector<StateEntry> entries_of(Session& session, PeerCase& peer, Tensor& filler) {
  std::vector<StateEntry> entries = peer.state().entries_to_save();
  uint64_t bytes = 0;
  for (const StateEntry& entry : entries) bytes += entry.bytes();
  constexpr int64_t kColumns = 1024;
  const int64_t rows = (static_cast<int64_t>(kSaveBytes) - static_cast<int64_t>(bytes)) / (4 * kColumns);
  filler = Tensor::empty(session.allocator(), Dtype::kF32, {rows, kColumns});
  kernels::fill(session.context().exec, filler, 1);
  entries.push_back(whole_entry("/filler", filler));
  return entries;
}

// Steps for about `seconds`, and until `done`.
struct Stretch {
  std::vector<double> steps;
  double seconds = 0;
};
template <class Done>
Stretch train(PeerCase& peer, double seconds, Done&& done) {
  Stretch stretch;
  while (stretch.seconds < seconds || !done()) {
    stretch.seconds += seconds_of([&] { stretch.steps.push_back(peer.step()); });
  }
  return stretch;
}

}  // namespace

nlohmann::json bench_checkpoint(Session& session, const BenchOptions& options) {
  constexpr int kRounds = 3;
  const ScratchDirectory scratch;
  PeerCase peer(session);
  Tensor filler;
  const std::vector<StateEntry> entries = entries_of(session, peer, filler);
  const auto self = parallel::make_self_communicator();
  CheckpointOptions saving;
  saving.directory = scratch.path();
  CheckpointWriter writer(saving, *self, session.allocator());
  CheckpointHeader header;
  header.run_id = "bench";
  const auto save_step = [&] { return header.step = peer.state().step; };
  train(peer, 1, [] { return true; });
  save_step();
  writer.save(header, entries);  // the first one also allocates its buffers

  std::vector<double> lost, written, stopped;
  for (int round = 0; round < kRounds; ++round) {
    const Stretch before = train(peer, options.seconds / kRounds, [] { return true; });
    save_step();
    double aside = seconds_of([&] { writer.begin(header, entries); });
    const Stretch with = train(peer, 0, [&] { return writer.locally_done(); });
    SaveReport report;
    aside += seconds_of([&] { report = writer.publish(); });
    const Stretch after = train(peer, options.seconds / kRounds, [] { return true; });
    const double usual =
        (before.seconds + after.seconds) / static_cast<double>(before.steps.size() + after.steps.size());
    lost.push_back(aside + with.seconds - usual * static_cast<double>(with.steps.size()));
    written.push_back(report.write_seconds);
    stopped.push_back(aside);
    std::filesystem::remove_all(report.directory);
  }
  const double cost = median(lost), share = cost / kTrainingSeconds;
  if (options.print) {
    fmt::print(
        "a background save of {:.2f} GB: {:.2f} s of training lost ({:.2f} s of it standing still), {:.2f} s of "
        "writing; {:.1f}% of {:.0f} s\n",
        1e-9 * static_cast<double>(kSaveBytes), cost, median(stopped), median(written), 100 * share, kTrainingSeconds);
  }
  return {{"case", "checkpoint"},        {"threads", session.threads()},       {"bytes", kSaveBytes},
          {"lost_seconds", cost},        {"stopped_seconds", median(stopped)}, {"write_seconds", median(written)},
          {"share_of_60_seconds", share}};
}

}  // namespace cadre::launch
