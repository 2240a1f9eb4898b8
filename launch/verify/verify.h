#pragma once
// The gradient proof: every layout's losses and gradients against one rank in FP64.

#include <string>
#include <vector>

#include "launch/verify/compare.h"

namespace cadre::launch {

struct VerifyOptions {
  std::vector<parallel::Layout> layouts;
  std::vector<Dtype> dtypes = {Dtype::kF64, Dtype::kF32};
  bool shrink = false;
  Fault fault = Fault::kNone;
  bool print = true;
};

struct LayoutVerdict {
  parallel::Layout layout;
  Dtype dtype = Dtype::kF64;
  Comparison comparison;
  std::string axis;  // that makes the difference, when it fails: "data", "expert"; empty when it passes
  bool passes = false;
};

struct VerifyReport {
  double directional_error = 0;  // of the reference itself
  Flips near_ties;               // choices that FP32 would have made otherwise than FP64
  std::vector<LayoutVerdict> verdicts;
  bool passes() const;
};

// Largest errors that pass. FP32's tolerance holds for models of a few layers; rounding grows with depth.
constexpr double kFp64Tolerance = 1e-12, kFp32Tolerance = 1e-5, kDirectionalTolerance = 1e-8;
// Of the global norm: the least denominator in FP32.
constexpr double kFp32Floor = 1e-4;

VerifyReport verify(const Settings& settings, const VerifyOptions& options);

}  // namespace cadre::launch
