#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// A draw is a pure function of what it is for (seed, purpose, step, layer, global sample, position), never of a rank or
// of how many draws came before, so results do not depend on the layout and resume exactly.

#include <array>
#include <cstdint>
#include <string_view>

namespace cadre {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

enum class RngPurpose : uint32_t { kInit, kShuffle, kMixture, kDropout, kJitter, kGenerate, kTest, kRouting, kNoise };

// A stable stream number for a name (FNV-1a).
uint64_t stream_of(std::string_view name);

// A sequence of draws for one purpose; `stream` tells apart e.g. parameters, layers or samples.
class Rng {
 public:
  Rng(uint64_t seed, RngPurpose purpose, uint64_t stream = 0);

  uint32_t bits();  // uniform over 32 bits
  uint64_t bits64();
  double uniform();                // [0, 1), 53 bits
  double normal();                 // standard normal, Box-Muller
  uint64_t below(uint64_t bound);  // uniform over [0, bound), unbiased; bound > 0
  void seek(uint64_t block);       // jump to the block-th group of four 32-bit draws

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_{};
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace cadre
