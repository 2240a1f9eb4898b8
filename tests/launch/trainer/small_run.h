#pragma once
// Some steps of a verification's case on any layout, from the start or from a checkpoint, and checkpoints of them.

#include <filesystem>

#include "launch/trainer/local_rank.h"
#include "launch/verify/variant.h"
#include "launch/verify/verify_case.h"

namespace cadre::launch::testing {

struct SmallRun {
  std::filesystem::path from{};  // a checkpoint; empty: from the start
  int64_t steps = 0;
  std::filesystem::path save{};  // the folder of checkpoints to write one to, after those steps; empty: none
  std::filesystem::path save_before{};
  optim::OptimizerSettings optimizer = with_rate(0.01);

  static optim::OptimizerSettings with_rate(double lr);
};

// FP64, ranks as threads. The metrics of the last step.
StepMetrics carry_out(const VerifyCase& verify_case, const Variant& variant, const SmallRun& run);

// Names of the tensors that are in one of two checkpoints alone, or differ.
std::vector<std::string> differing_tensors(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace cadre::launch::testing
