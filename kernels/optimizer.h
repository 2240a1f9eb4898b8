#pragma once
// Parameter updates over flat storage, by segment: each segment has its own hyper-parameters and step count.

#include <span>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

enum class OptimizerKind { kAdamW, kSgd };

// Where a segment is, in elements: gradients and moments may be kept of a part of the weights only.
struct StatePlace {
  int64_t weights = 0;
  int64_t gradients = 0;
  int64_t moments = 0;
  int64_t count = 0;
  // The same place in all.
  static constexpr StatePlace everywhere(int64_t offset, int64_t count) { return {offset, offset, offset, count}; }
};

struct AdamWSegment {
  StatePlace place{};
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;    // decoupled (Loshchilov and Hutter, 2019): w -= lr * weight_decay * w
  int64_t step = 1;           // this update's number, from 1, for the bias correction
  double gradient_scale = 1;  // clipping factor
};

// Elements of a run whose change is measured. Runs are counted from a segment's start; its last may be shorter.
inline constexpr int64_t kChangeRun = 4096;

// Both updates: `changes`, where it is not empty, gets for each run of each segment in order the sum of squares in f64
// of what the update added to its weights. The weights have the same bits with and without.
//
// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; w -= lr (mhat / (sqrt(vhat) + eps) + weight_decay w).
// weights, gradients, m, v: flat, same type; a segment has one place in m and v.
void adamw(const Exec& exec, std::span<const AdamWSegment> segments, TensorView weights, TensorView gradients,
           TensorView m, TensorView v, std::span<double> changes = {});

struct SgdSegment {
  StatePlace place{};
  double lr = 0;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;  // decoupled
  double gradient_scale = 1;
};

// buffer = momentum * buffer + g; w -= lr * (nesterov ? g + momentum * buffer : buffer) + lr * weight_decay * w.
void sgd(const Exec& exec, std::span<const SgdSegment> segments, TensorView weights, TensorView gradients,
         TensorView buffer, std::span<double> changes = {});

struct FlatRange {
  int64_t offset = 0;
  int64_t count = 0;
};
// Sum of squares of each range in f64: blocks of 4096 elements from the range's start, summed in a binary tree, so that
// the bits do not depend on threads. A non-finite element makes its range's result non-finite.
void squared_norms(const Exec& exec, std::span<const FlatRange> ranges, TensorView x, std::span<double> results);

// Neighbours in pairs, then pairs of pairs; an odd one out moves up unchanged. Overwrites the values. The tree over
// squared norms of runs of 2^k blocks is the one over the blocks.
double tree_sum(std::span<double> values);

}  // namespace cadre::kernels
