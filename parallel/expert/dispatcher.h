#pragma once
// Tokens to the ranks that hold their experts, and back.

#include <functional>
#include <memory>
#include <vector>

#include "autograd/tape.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/exposed_time.h"
#include "parallel/expert/placement.h"
#include "parallel/expert/routes.h"

namespace cadre::parallel {

// Rows [n, h] for some local experts, sorted by expert and then by lane, which is the rank that they come from.
struct ExpertRows {
  autograd::Variable rows;
  autograd::Variable offsets;  // i64 [experts.count + 1]
  LocalExperts experts;
  int lanes = 1;
  autograd::Variable cells{};  // i64 [experts.count * lanes + 1], when there are more lanes than one
};
// -> [n, h], the same rows.
using ExpertFunction = std::function<autograd::Variable(autograd::Tape&, ExpertRows)>;

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;
  // Of the experts' weight gradients (autograd/gradient_tree.h).
  virtual int lanes() const = 0;
  // rows [bound, h] of this rank, sorted by global expert, offsets i64 [experts + 1] -> the experts' results for rows
  // < offsets[experts], in the same order. `meanwhile` is called once, while rows are under way: what it applies to the
  // tape needs no rows of others. Collective over the expert group, also in the backward.
  virtual autograd::Variable run(autograd::Tape& tape, autograd::Variable rows, autograd::Variable offsets, int layer,
                                 const ExpertFunction& experts, const std::function<void()>& meanwhile) const = 0;
};

// All experts are here.
std::unique_ptr<Dispatcher> make_local_dispatcher();

enum class DispatcherKind { kAllToAll, kAllGather };

struct DispatchOptions {
  DispatcherKind kind = DispatcherKind::kAllToAll;  // see RowTransport
  // Most rows that a rank computes at a time; 0: all. A rank that attracts more takes them in rounds, which the
  // backward exchanges and computes again, so that the memory of a layer's experts is bounded.
  int64_t max_rows = 0;
  // Parts of a round, see RouteCuts: while one is computed, the next one's rows arrive and the last one's results
  // leave.
  int64_t chunks = 1;
  // Weight gradients have a lane for each rank of the group, so that their sums can be put in an order that no layout
  // changes. Rounds and chunks keep the rows of an expert and source together.
  bool reproducible = false;
  ExposedTime* exposed = nullptr;  // optional: where waiting for exchanges is counted; outlives the dispatcher
  // Optional: where this rank's rows are counted, by the rank of the group that computes them; outlives the dispatcher.
  std::vector<int64_t>* rows_to = nullptr;
};
// Counts, then rows. The communicator is the expert group's and must outlive the dispatcher.
std::unique_ptr<Dispatcher> make_group_dispatcher(Communicator& communicator, Placement placement,
                                                  DispatchOptions options = {});

}  // namespace cadre::parallel
