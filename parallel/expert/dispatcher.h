#pragma once
// Tokens to the ranks that hold their experts, and back.

#include <functional>
#include <memory>

#include "autograd/tape.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/placement.h"

namespace cadre::parallel {

// Local experts over rows [n, h] sorted by local expert; offsets i64 [local experts + 1] -> [n, h].
using ExpertFunction =
    std::function<autograd::Variable(autograd::Tape&, autograd::Variable rows, autograd::Variable offsets)>;

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;
  // rows [bound, h] of this rank, sorted by global expert, offsets i64 [experts + 1] -> the experts' results for rows
  // < offsets[experts], in the same order. Collective over the expert group, also in the backward.
  virtual autograd::Variable run(autograd::Tape& tape, autograd::Variable rows, autograd::Variable offsets, int layer,
                                 const ExpertFunction& experts) const = 0;
};

// All experts are here.
std::unique_ptr<Dispatcher> make_local_dispatcher();

struct DispatchOptions {
  // Most rows that a rank computes at a time; 0: all. A rank that attracts more takes them in rounds, which the
  // backward exchanges and computes again, so that the memory of a layer's experts is bounded.
  int64_t max_rows = 0;
};
// Counts, then rows, by all-to-all. The communicator is the expert group's and must outlive the dispatcher.
std::unique_ptr<Dispatcher> make_all_to_all_dispatcher(Communicator& communicator, Placement placement,
                                                       DispatchOptions options = {});

}  // namespace cadre::parallel
