#pragma once
// Feed-forward layers: experts behind a router, and the dense layer, which is one group of the same code.

#include <optional>
#include <string>
#include <vector>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
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

// w2 (activation(w1 x) [* w3 x]) for `groups` experts held in two stacked parameters.
class ExpertGroup {
 public:
  // `name_of(group)` is the prefix of a group's segments: "layers.3.moe.experts.17" gives ".w1", ".w3", ".w2".
  ExpertGroup(autograd::ParameterStore& store, const std::string& name, const std::vector<std::string>& group_names,
              int64_t hidden, int64_t ffn, kernels::Activation activation, double init_std, double output_std,
              bool experts);
  // x [rows, hidden], offsets i64 [groups + 1] or empty.
  autograd::Variable forward(autograd::Tape& tape, const RecomputeSettings& recompute, autograd::Variable x,
                             autograd::Variable offsets) const;

 private:
  kernels::Activation activation_;
  autograd::Parameter* up_;    // [groups, 2 ffn or ffn, hidden]
  autograd::Parameter* down_;  // [groups, hidden, ffn]
};

class FeedForward {
 public:
  FeedForward(autograd::ParameterStore& store, const NetworkSettings& settings, int64_t layer);

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
  autograd::Parameter* router_ = nullptr;
  std::optional<ExpertGroup> experts_;
  std::optional<ExpertGroup> shared_;  // shared experts, or the whole dense layer
};

}  // namespace cadre::model
