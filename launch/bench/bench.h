#pragma once
// `cadre bench`: what this machine reaches, measured, with the shares of a peak that is measured in the same run.

#include <nlohmann/json_fwd.hpp>

#include "launch/session.h"

namespace cadre::launch {

struct BenchOptions {
  double seconds = 10;  // for each measurement
  bool print = true;    // tables for people
};

// The reference case of docs/performance.md: hidden 256, 4 layers, 4 heads, 8 experts top-2 of 512, sequence 256, batch
// 8, vocabulary 256, AdamW, FP32, dropless. Whole training steps on random tokens.
nlohmann::json bench_peer(Session& session, const BenchOptions& options);

}  // namespace cadre::launch
