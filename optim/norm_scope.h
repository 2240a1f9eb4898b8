#pragma once
// How the gradient norms of pieces (parallel/data/ownership.h) become those of segments, over all ranks.

#include <cstddef>
#include <string>
#include <vector>

namespace cadre::optim {

struct SegmentState;

struct NormSegment {
  std::string name;
  int layer = -1;
  int expert = -1;
};

// The ranks of a run hold different segments, and the same ones many times: this counts each exactly once.
class NormScope {
 public:
  virtual ~NormScope() = default;
  // Of the whole model, in the order of a rank that has all.
  virtual const std::vector<NormSegment>& all() const = 0;
  virtual size_t index_of(const std::string& name) const = 0;
  // Squared norms of all(), the same on every rank. pieces[i]: squares of the pieces that this rank owns of
  // segments[i]. Collective, under the name of `what`.
  virtual std::vector<double> squares(const std::vector<SegmentState>& segments,
                                      const std::vector<std::vector<double>>& pieces,
                                      const char* what = "gradient norms") = 0;
};

}  // namespace cadre::optim
