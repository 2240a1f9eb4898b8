#pragma once
// Runs an op's case through a tape, forward and backward, in one of the ways that must agree.

#include <vector>

#include "autograd/tape.h"
#include "kernels/exec.h"
#include "tests/autograd/op_cases.h"

namespace cadre::autograd::testing {

struct RunOptions {
  Dtype dtype = Dtype::kF64;
  kernels::Isa isa = kernels::best_isa();
  int threads = 1;
  bool parameters = false;      // parameter inputs come from a ParameterStore, else they are leaves
  bool derived_inputs = false;  // other differentiable inputs come out of an Add, so nobody else holds them
  bool recompute = false;       // all of it inside a RecomputeScope, and discarded before the backward
  bool dry = false;             // kernels do nothing, and memory comes as zeros
  BackwardPart part = BackwardPart::kAll;
  std::vector<int> projections = {0};  // one application of the op to the same inputs for each
};

// Values in f64, zero where a case leaves them undefined.
struct RunResult {
  std::vector<std::vector<double>> outputs;    // of the first application
  std::vector<std::vector<double>> gradients;  // by input; empty when not differentiable
  double projected = 0;                        // sum over outputs of <projection, output>, whose gradient this is
};

RunResult run_case(const OpCase& op_case, const RunOptions& options);

std::vector<kernels::Isa> available_isas();

}  // namespace cadre::autograd::testing
