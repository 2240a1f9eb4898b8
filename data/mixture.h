#pragma once
// Which source a sample comes from, as a pure function of its global index: weights become whole shares of a block of
// samples, spread evenly over the block, and blocks repeat. So any stretch of samples holds each source within about
// one sample of its share, and nothing needs to be remembered to resume.

#include <cstdint>
#include <span>
#include <vector>

namespace cadre::data {

class Mixture {
 public:
  static constexpr int64_t kBlock = int64_t{1} << 16;  // samples; a weight is honoured to 1 in 131,072

  // Weights > 0, in any unit. Throws ConfigError on a weight that is not, or too small to get one sample of a block.
  explicit Mixture(std::span<const double> weights);

  struct Place {
    int source;
    int64_t index;  // counts the samples of this source before: 0, 1, 2, ... without gaps
  };
  Place place(int64_t sample) const;
  int64_t share(int source) const { return shares_[static_cast<size_t>(source)]; }  // samples of a block

 private:
  std::vector<int64_t> shares_;
  std::vector<uint16_t> sources_;  // [kBlock]; empty with one source
  std::vector<uint32_t> ranks_;    // [kBlock]: samples of the same source before it in the block
};

}  // namespace cadre::data
