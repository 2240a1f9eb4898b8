#pragma once
// One case with its reference, and how variants of it compare.

#include <string>
#include <vector>

#include "launch/verify/compare.h"

namespace cadre::launch {

// Largest errors that pass. FP32's tolerance holds for models of a few layers; rounding grows with depth.
constexpr double kFp64Tolerance = 1e-12, kFp32Tolerance = 1e-5, kDirectionalTolerance = 1e-8;
// Of the global norm: the least denominator in FP32.
constexpr double kFp32Floor = 1e-4;

struct Verdict {
  Variant variant;
  Dtype dtype = Dtype::kF64;
  Comparison comparison;
  std::string axis;  // that makes the difference, when it fails: "data", "expert", "pipeline"; empty when it passes
  bool passes = false;
};

class Proof {
 public:
  // Computes the reference. With a `world` of several ranks variants run on those, else as threads; what has another
  // number of ranks runs as threads of every process.
  Proof(VerifyCase verify_case, Fault fault, parallel::Communicator* world = nullptr);

  // Of the reference, against finite differences along random directions.
  double directional_error() const;
  // Choices that FP32 would have made otherwise than FP64.
  Flips near_ties() const;
  // Collective over the world.
  Verdict judge(const Variant& variant, Dtype dtype) const;

 private:
  Comparison compare_with(const Variant& variant, Dtype dtype) const;
  bool passes(const Variant& variant, Dtype dtype) const;
  std::string axis_of(const Variant& variant, Dtype dtype) const;

  VerifyCase case_;
  Fault fault_;
  parallel::Communicator* world_;
  std::vector<std::string> order_;  // of segments
  CaseResult reference_;
};

}  // namespace cadre::launch
