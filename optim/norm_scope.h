#pragma once
// How segments' gradient norms become the global one.

#include <string>
#include <vector>

namespace cadre::optim {

struct SegmentState;

struct GlobalNorm {
  double square = 0;
  std::string first_non_finite;  // segment; empty when all are finite
};

// The ranks of a run hold different segments, and the same ones many times: this counts each exactly once.
class NormScope {
 public:
  virtual ~NormScope() = default;
  // squares[i]: of segments[i], here. Collective; the same result on every rank.
  virtual GlobalNorm total(const std::vector<SegmentState>& segments, const std::vector<double>& squares) = 0;
};

}  // namespace cadre::optim
