#pragma once
// How the gradient norms of pieces (parallel/data/ownership.h) become those of segments and the global one.

#include <string>
#include <vector>

namespace cadre::optim {

struct SegmentState;

struct GlobalNorm {
  double square = 0;
  std::vector<double> segments;  // squares of the segments here
  std::string first_non_finite;  // segment; empty when all are finite
};

// The ranks of a run hold different segments, and the same ones many times: this counts each exactly once.
class NormScope {
 public:
  virtual ~NormScope() = default;
  // pieces[i]: squares of the pieces that this rank owns of segments[i]. Collective; `square` is the same on every
  // rank.
  virtual GlobalNorm total(const std::vector<SegmentState>& segments,
                           const std::vector<std::vector<double>>& pieces) = 0;
};

}  // namespace cadre::optim
