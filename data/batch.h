#pragma once
// What a model trains on or is measured on.

#include <cstdint>
#include <vector>

namespace cadre::data {

inline constexpr int32_t kIgnoredTarget = -1;  // a position that is not scored

struct Batch {
  int64_t samples = 0;
  int64_t seq_length = 0;
  // All [samples * seq_length], row-major.
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;  // the token after each, or kIgnoredTarget
  // First position, within its sample, of the document that a position belongs to; 0 where the document began before.
  // All 0 when documents are not told apart.
  std::vector<int32_t> segment_start;
  int64_t target_tokens = 0;  // targets that are scored
};

}  // namespace cadre::data
