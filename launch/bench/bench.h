#pragma once
// `cadre bench`: what this machine reaches, measured, with the shares of a peak that is measured in the same run.
//
// Machines are shared and noisy: what is compared is timed in alternation, and ratios are of medians. Each case prints
// a table for people when asked to, and returns the same as JSON.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "launch/session.h"

namespace cadre::launch {

struct BenchOptions {
  double seconds = 10;  // for each measurement
  bool print = true;    // tables for people
  std::string text;     // a UTF-8 file that `prepare` encodes; empty: generated words
};

// The reference case of docs/performance.md: hidden 256, 4 layers, 4 heads, 8 experts top-2 of 512, sequence 256, batch
// 8, vocabulary 256, AdamW, FP32, dropless. Whole training steps on random tokens.
nlohmann::json bench_peer(Session& session, const BenchOptions& options);

// Where the time of such a step goes: a table of its ops, the optimizer, and what is left.
nlohmann::json bench_ops(Session& session, const BenchOptions& options);

// Matrix products of 8 experts (512 x 1408) at 16, 64, 256 and 1024 rows each: forward, input gradient, weight
// gradient, and packing of the weights, which happens once an update.
nlohmann::json bench_gemm(Session& session, const BenchOptions& options);

// A mixture-of-experts layer against a dense layer of the same active width, forward and backward; and experts of
// different widths against equal ones of the same FLOPs.
nlohmann::json bench_layer(Session& session, const BenchOptions& options);

// AdamW and the gradient norm against a copy, in bytes a second, out of cache.
nlohmann::json bench_optimizer(Session& session, const BenchOptions& options);

// Pipelines of two ranks, one thread each, with every schedule: what a step takes, its bubble, and what the schedule
// predicts for actions that take what they took; deeper pipelines in virtual time.
nlohmann::json bench_pipeline(Session& session, const BenchOptions& options);

// Half of all tokens to one of 16 experts on two ranks of one thread each, against even routing, and with a copy of
// that expert on the other rank.
nlohmann::json bench_skew(Session& session, const BenchOptions& options);

// Text to token files: bytes and SentencePiece, on one core.
nlohmann::json bench_prepare(Session& session, const BenchOptions& options);

// Training time lost to a 1-GB checkpoint that is saved in the background.
nlohmann::json bench_checkpoint(Session& session, const BenchOptions& options);

}  // namespace cadre::launch
