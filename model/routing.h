#pragma once
// What goes into the routing of a layer, and what comes out of it.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "autograd/ops/guard.h"
#include "autograd/variable.h"
#include "core/tensor.h"

namespace cadre::model {

// Coefficients of the auxiliary losses in one step.
struct BalanceWeights {
  double aux = 0, importance = 0, hinge = 0, load = 0, entropy = 0, z = 0;
};

// What one forward is for.
struct ForwardOptions {
  bool training = true;                     // capacity applies, balance losses are computed
  double global_tokens = 1;                 // target tokens of the global batch: the weight of auxiliary losses
  int64_t sequences = 1;                    // of the micro-batch, for the scope `sequence`
  std::optional<BalanceWeights> balance{};  // none: those of step 1 of 1
  // What draws are a function of, beside the layer: the seed, the step, and the first token's place in the global
  // batch.
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first_token = 0;
  bool measure_scores = false;  // for RoutingResult::score_totals
};

// What steers the routing of one layer in a step; all f64 [experts], and empty where nothing does.
struct LayerControls {
  Tensor fractions;     // of choices in the global batch of the step before, for the balance scope `global_batch`
  Tensor loads;         // sums of gate weights there, likewise
  Tensor smooth_loads;  // and of a noisy router's smooth loads
  Tensor bias;          // added to scores when experts are chosen; -infinity: not there
  Tensor thresholds;    // where experts choose tokens: the lowest key that they take, outside training
  // Factors of the gradients that leave an expert for its input, that reach its output, and that reach its gate; and,
  // i32 [experts], whose rows that are not finite are zeroed and counted. All four or none.
  Tensor input_factors, output_factors, gate_factors, guarded;
};

// What a router decided for one layer of one micro-batch.
struct RoutingResult {
  int64_t layer = 0;
  std::vector<autograd::Variable> balance_losses;  // contributions to the global batch's loss
  autograd::Variable z_loss;                       // likewise; empty: none
  Tensor counts;                                   // i64 [scopes, experts]: choices, drops included
  Tensor ids;                                      // i32 [tokens, places]; -1: none
  Tensor lowest;                                   // f64 [experts]: lowest key taken, where experts choose tokens
  Tensor offsets;                                  // i64 [computing + 1]: rows kept
  Tensor score_sums;                               // [scopes, experts], of each token's distribution; with an aux loss
  Tensor smooth_loads;                             // [1, experts], likewise of a noisy router
  Tensor loads;                                    // [1, experts]: sums of gate weights; empty unless a loss needs them
  Tensor score_totals;   // f64 [experts + 1]: shares of scores over all tokens, then entropies; empty unless asked for
  Tensor output_faults;  // i64 [computing]: rows that were not finite; empty without guards
  std::shared_ptr<autograd::RowFaults> gradient_faults;  // likewise of gradients, once the backward is done

  double balance_loss() const;
  double z_loss_value() const;
  // All of them, for a backward.
  std::vector<autograd::Variable> losses() const;
};

}  // namespace cadre::model
