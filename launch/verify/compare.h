#pragma once
// How far a result is from the reference.

#include <string>

#include "launch/verify/run_case.h"

namespace cadre::launch {

// Errors are relative: |l - l_ref| / |l_ref| for a loss, ||g - g_ref|| / ||g_ref|| for a segment's gradient. With
// `floor`, ||g_ref|| is at least floor x the global norm: FP32 rounding of the whole drowns a tiny gradient.
struct Comparison {
  double loss = 0;         // the largest of the three losses'
  double gradient = 0;     // the largest
  std::string worst;       // its segment
  std::string first;       // the first segment in the model's order that exceeds the tolerance; empty: none
  double first_error = 0;  // its error

  bool passes(double tolerance) const { return loss <= tolerance && first.empty() && gradient <= tolerance; }
};

// `order`: segments of the whole model. A segment that is missing, or has another size, counts as an infinite error.
Comparison compare(const CaseResult& result, const CaseResult& reference, const std::vector<std::string>& order,
                   double tolerance, double floor);

// Choices that differ between two recordings, of all.
struct Flips {
  int64_t choices = 0;
  int64_t differ = 0;
};
Flips count_flips(const RecordedRouting& one, const RecordedRouting& other);

}  // namespace cadre::launch
