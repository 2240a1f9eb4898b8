#pragma once
// The eager tape of one (stage, micro-batch): ops run as they are applied, and are recorded for one backward.
//
// Recompute (gradient checkpointing; Chen et al., "Training deep nets with sublinear memory cost", 2016): ops applied
// inside a RecomputeScope have their outputs discarded by discard_recomputable(); a backward that needs such a value
// runs the op's forward again, and those before it. Only kernels run again, never module code, so no side effect
// repeats.

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "autograd/backward_call.h"
#include "autograd/op.h"

namespace cadre::autograd {

enum class BackwardPart { kAll, kInputsOnly };

class Tape {
 public:
  // `record` false: inference; nothing is kept.
  explicit Tape(const Context& context, bool record = true);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The funnel: checks, infers, allocates, runs, records, profiles. An empty Variable is an absent optional input.
  std::vector<Variable> apply(std::unique_ptr<Op> op, std::vector<Variable> inputs);
  template <class O, class... Attributes>
  std::vector<Variable> apply_all(std::vector<Variable> inputs, Attributes&&... attributes) {
    return apply(std::make_unique<O>(std::forward<Attributes>(attributes)...), std::move(inputs));
  }
  template <class O, class... Attributes>
  Variable apply(std::vector<Variable> inputs, Attributes&&... attributes) {
    return apply_all<O>(std::move(inputs), std::forward<Attributes>(attributes)...)[0];
  }

  struct Seed {
    Variable output;
    Tensor gradient;  // shaped like output; an f64 [1] loss usually takes 1
  };
  // Runs the backward once. kInputsOnly leaves the gradients of Parameters to backward_parameters(), for zero-bubble
  // schedules; but see WholeBackwardScope.
  void backward(std::vector<Seed> seeds, BackwardPart part = BackwardPart::kAll);
  void backward_parameters();
  // The gradient 1 for a scalar loss.
  Seed seed(const Variable& loss) const;

  // Called when a parameter's gradient is complete for this tape, in the order in which that happens.
  std::function<void(Parameter&)> on_parameter_ready;

  // Discards every value made inside a RecomputeScope since the last call, but not pinned ones; with `mark`, an earlier
  // recomputable(), only those made since.
  void discard_recomputable(size_t mark = 0);
  size_t recomputable() const { return recomputable_.size(); }
  void pin(const Variable& variable);

  const Context& context() const { return context_; }
  bool recording() const { return record_; }

 private:
  friend class RecomputeScope;
  friend class WholeBackwardScope;
  friend struct Value;

  void keep(Record record, const std::vector<Variable>& inputs, const std::vector<Variable>& outputs);
  void recompute(size_t record);
  void run_again(const Record& record);
  void run_part(Record& record, bool parameters);
  void finish(Record& record);

  const Context& context_;
  bool record_;
  bool recompute_scope_ = false;
  bool whole_scope_ = false;
  bool parameters_deferred_ = false;
  std::vector<Record> records_;
  std::vector<std::weak_ptr<Value>> recomputable_;
  std::map<const Parameter*, int> uses_;  // records that still owe this parameter a gradient
};

// Marks the ops applied while it lives as recomputable, when `enabled`.
class RecomputeScope {
 public:
  RecomputeScope(Tape& tape, bool enabled) : tape_(tape), before_(tape.recompute_scope_) {
    tape_.recompute_scope_ = before_ || enabled;
  }
  ~RecomputeScope() { tape_.recompute_scope_ = before_; }
  RecomputeScope(const RecomputeScope&) = delete;
  RecomputeScope& operator=(const RecomputeScope&) = delete;

 private:
  Tape& tape_;
  bool before_;
};

// Marks the ops applied while it lives as such whose whole backward runs at once, kInputsOnly or not: what they would
// hold until backward_parameters() is freed, and their parameters are ready then. Not `enabled`: as others, even within
// another scope.
class WholeBackwardScope {
 public:
  WholeBackwardScope(Tape& tape, bool enabled) : tape_(tape), before_(tape.whole_scope_) {
    tape_.whole_scope_ = enabled;
  }
  ~WholeBackwardScope() { tape_.whole_scope_ = before_; }
  WholeBackwardScope(const WholeBackwardScope&) = delete;
  WholeBackwardScope& operator=(const WholeBackwardScope&) = delete;

 private:
  Tape& tape_;
  bool before_;
};

}  // namespace cadre::autograd
