#pragma once
// The gradient proof: every layout's losses and gradients against one rank in FP64.

#include <vector>

#include "launch/verify/proof.h"

namespace cadre::launch {

struct VerifyOptions {
  std::vector<Variant> variants;
  std::vector<Dtype> dtypes = {Dtype::kF64, Dtype::kF32};
  bool shrink = false;
  Fault fault = Fault::kNone;
  bool print = true;
  parallel::Communicator* world = nullptr;  // several ranks: of mpirun; otherwise ranks are threads
};

struct VerifyReport {
  double directional_error = 0;  // the largest of the references'
  Flips near_ties;               // choices that FP32 would have made otherwise than FP64
  std::vector<Verdict> verdicts;
  bool passes() const;
};

// Variants that can share a reference (micro-batches, layers) do. Collective over the world.
VerifyReport verify(const Settings& settings, const VerifyOptions& options);

}  // namespace cadre::launch
