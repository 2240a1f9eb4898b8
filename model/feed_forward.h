#pragma once
// Feed-forward layers: experts behind a router, and the dense layer, which is one group of the same code.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autograd/ops/activation.h"
#include "autograd/ops/simple_experts.h"
#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "model/expert_shard.h"
#include "model/router.h"
#include "model/routing.h"
#include "model/settings.h"

namespace cadre::model {

// One expert of an ExpertGroup, with its place in the layer, or a plain layer (-1). `name` is the prefix of its
// segments: "layers.3.moe.experts.17" gives ".w1", ".w3", ".w2".
struct ExpertSpec {
  std::string name;
  int expert = -1;
  int64_t ffn = 0;
  kernels::Activation activation = kernels::Activation::kSwiGlu;
  double init_std = 0, output_std = 0;  // of w1 and w3; of w2
  std::string stack{};                  // which of the model's stacks it belongs to, on any rank; "" where there is one
};

// w2 (activation(w1 x) [* w3 x]) for a number of experts. Neighbours of one stack, which are of one kind, are held in
// two parameters: NAME.up and NAME.down, or with the stack's name NAME.0.up and so on. A product is one grouped
// computation over all.
class ExpertGroup {
 public:
  ExpertGroup(autograd::ParameterStore& store, const std::string& name, const std::vector<ExpertSpec>& experts,
              int64_t hidden, int lanes = 1);
  // `rows` [n, hidden] for some of the experts; without offsets, all for the one expert.
  autograd::Variable forward(autograd::Tape& tape, const RecomputeSettings& recompute, parallel::ExpertRows rows) const;

 private:
  struct Stack {
    autograd::ActivationStack kind;
    int64_t first;              // of its experts
    autograd::Parameter* up;    // [groups, 2 ffn or ffn, hidden]
    autograd::Parameter* down;  // [groups, hidden, ffn]
  };
  // A part of a stack: `first` counts within it.
  struct StackPart {
    const Stack& stack;
    int64_t first, count;
  };
  void add_stack(autograd::ParameterStore& store, const std::string& name, std::span<const ExpertSpec> experts,
                 int64_t hidden, int lanes);
  std::vector<StackPart> parts_of(const parallel::LocalExperts& experts) const;

  std::vector<Stack> stacks_;
  int64_t count_ = 0;  // of experts
};

class FeedForward {
 public:
  // `experts`: what the layer has in all. Both settings and experts must outlive it.
  FeedForward(autograd::ParameterStore& store, const NetworkSettings& settings, const LayerExperts& experts,
              int64_t layer, const ExpertShard& shard);

  // x [tokens, hidden] -> branch [tokens, hidden]. `replay`: ids i32 [tokens, places] to route by, or empty. `routing`
  // gets the result of an MoE layer.
  autograd::Variable forward(autograd::Tape& tape, const ForwardOptions& options, autograd::Variable x,
                             const Tensor& replay, const LayerControls& controls,
                             std::vector<RoutingResult>& routing) const;

 private:
  autograd::Variable routed(autograd::Tape& tape, const ForwardOptions& options, const autograd::Variable& x,
                            const Tensor& replay, const LayerControls& controls,
                            std::vector<RoutingResult>& routing) const;
  int64_t capacity(const ForwardOptions& options, int64_t tokens) const;
  std::vector<autograd::Variable> plan(autograd::Tape& tape, const ForwardOptions& options,
                                       const autograd::Variable& ids, const autograd::Variable& weights) const;
  autograd::Variable computed_here(autograd::Tape& tape, const autograd::Variable& x, const autograd::Variable& ids,
                                   const autograd::Variable& weights, const LayerControls& controls) const;
  void add_simple(autograd::ParameterStore& store, const std::string& prefix);

  const NetworkSettings& settings_;
  const LayerExperts& layout_;
  int64_t layer_;
  std::shared_ptr<const parallel::Dispatcher> dispatcher_;
  std::optional<LayerRouter> router_;
  std::optional<ExpertGroup> experts_;        // those of this rank
  kernels::SimpleExperts simple_;             // those that do not compute
  autograd::Parameter* constants_ = nullptr;  // [n, 3, hidden], of the constant ones
  std::vector<ExpertGroup> shared_;           // sets of shared experts, or the whole dense layer
};

}  // namespace cadre::model
