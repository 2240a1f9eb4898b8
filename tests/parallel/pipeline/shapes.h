#pragma once
// Shapes of schedules for tests.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/rng.h"
#include "parallel/pipeline/simulate.h"

namespace cadre::parallel {

inline constexpr ScheduleKind kKinds[] = {ScheduleKind::kGPipe, ScheduleKind::k1F1B, ScheduleKind::kInterleaved,
                                          ScheduleKind::kZeroBubble};

// Every kind with 1..8 ranks, 1..16 micro-batches and, where it has them, 1..4 chunks.
inline std::vector<ScheduleShape> all_shapes() {
  std::vector<ScheduleShape> shapes;
  for (const ScheduleKind kind : kKinds) {
    const int most_chunks = kind == ScheduleKind::kInterleaved ? 4 : 1;
    for (int ranks = 1; ranks <= 8; ++ranks) {
      for (int chunks = 1; chunks <= most_chunks; ++chunks) {
        for (int micro_batches = 1; micro_batches <= 16; ++micro_batches) {
          shapes.push_back({kind, ranks, chunks, micro_batches});
        }
      }
    }
  }
  return shapes;
}

inline std::string to_string(const ScheduleShape& shape) {
  return std::string(config::enum_name(shape.kind)) + " ranks=" + std::to_string(shape.ranks) +
         " chunks=" + std::to_string(shape.chunks) + " micro_batches=" + std::to_string(shape.micro_batches);
}

inline Costs random_costs(int stages, Rng& rng) {
  Costs costs;
  for (int stage = 0; stage < stages; ++stage) {
    const double inputs = 0.2 + rng.uniform(), weights = 0.2 + rng.uniform();
    costs.stages.push_back({0.2 + rng.uniform(), inputs + weights, inputs, weights, rng.uniform(), rng.uniform()});
  }
  return costs;
}

}  // namespace cadre::parallel
