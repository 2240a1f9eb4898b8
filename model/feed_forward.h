#pragma once
// Feed-forward layers: experts behind a router, and the dense layer, which is one group of the same code.

#include <optional>
#include <string>
#include <vector>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "model/expert_shard.h"
#include "model/settings.h"

namespace cadre::model {

// What one forward is for.
struct ForwardOptions {
  bool training = true;      // capacity applies, balance losses are computed
  double global_tokens = 1;  // target tokens of the global batch: the weight of auxiliary losses
  int64_t sequences = 1;     // of the micro-batch, for the scope `sequence`
};

// What a router decided for one layer of one micro-batch.
struct RoutingResult {
  int64_t layer = 0;
  autograd::Variable balance_loss, z_loss;  // contributions to the global batch's loss
  Tensor counts;                            // i64 [scopes, experts]: choices, drops included
  Tensor prob_sums;                         // [scopes, experts]
  Tensor ids;                               // i32 [tokens, k]
  Tensor offsets;                           // i64 [experts + 1]: rows kept
};

// One group of an ExpertGroup: an expert with its global id, or a plain layer (-1). `name` is the prefix of its
// segments: "layers.3.moe.experts.17" gives ".w1", ".w3", ".w2".
struct GroupName {
  std::string name;
  int expert = -1;
};

// w2 (activation(w1 x) [* w3 x]) for a number of experts held in two stacked parameters.
class ExpertGroup {
 public:
  ExpertGroup(autograd::ParameterStore& store, const std::string& name, const std::vector<GroupName>& groups,
              int64_t hidden, int64_t ffn, kernels::Activation activation, double init_std, double output_std,
              int lanes = 1);
  // `rows` [n, hidden] for some of the groups; without offsets, all for the one group.
  autograd::Variable forward(autograd::Tape& tape, const RecomputeSettings& recompute, parallel::ExpertRows rows) const;

 private:
  kernels::Activation activation_;
  autograd::Parameter* up_ = nullptr;    // [groups, 2 ffn or ffn, hidden]; null without experts
  autograd::Parameter* down_ = nullptr;  // [groups, hidden, ffn]
};

class FeedForward {
 public:
  FeedForward(autograd::ParameterStore& store, const NetworkSettings& settings, int64_t layer,
              const ExpertShard& shard);

  // x [tokens, hidden] -> branch [tokens, hidden]. `replay`: ids i32 [tokens, k] to route by, or empty. `fractions`:
  // f64 [experts], the previous step's global expert fractions for the scope `global_batch`, or empty. `routing` gets
  // the result of an MoE layer.
  autograd::Variable forward(autograd::Tape& tape, const ForwardOptions& options, autograd::Variable x,
                             const Tensor& replay, const Tensor& fractions, std::vector<RoutingResult>& routing) const;

 private:
  autograd::Variable routed(autograd::Tape& tape, const ForwardOptions& options, const autograd::Variable& x,
                            const Tensor& replay, const Tensor& fractions, std::vector<RoutingResult>& routing) const;

  const NetworkSettings& settings_;
  int64_t layer_;
  std::shared_ptr<const parallel::Dispatcher> dispatcher_;
  autograd::Parameter* router_ = nullptr;
  std::optional<ExpertGroup> experts_;  // those of this rank
  std::optional<ExpertGroup> shared_;   // shared experts, or the whole dense layer
};

}  // namespace cadre::model
