#pragma once
// The f32 code of kernels/router.h, per instruction set. Serial, over tokens [begin, end).

#include <cstdint>

#include "kernels/cpu/elementwise.h"

namespace cadre::cpu {

struct RouterScores {
  Rows logits;
  const double* mask;  // or null
  Rows probs;
  float* lse;
  int64_t experts;
};

struct RouterScoresBackward {
  Rows logits;         // of a sigmoid
  const double* mask;  // likewise; or null
  Rows probs;
  const float* lse;   // of a sigmoid
  Rows dprobs;        // or null
  const float* dlse;  // or null
  Rows dlogits;
  int64_t experts;
};

struct RouterTable {
  void (*softmax)(const RouterScores& scores, int64_t begin, int64_t end);
  void (*softmax_backward)(const RouterScoresBackward& scores, int64_t begin, int64_t end);
  void (*sigmoid)(const RouterScores& scores, int64_t begin, int64_t end);
  void (*sigmoid_backward)(const RouterScoresBackward& scores, int64_t begin, int64_t end);
  // sums [cols] = sum of rows [begin, end) of values from column `first`, in order.
  void (*column_sums)(Rows values, int64_t begin, int64_t end, int64_t first, int64_t cols, float* sums);
  // Row t of `values` gets (or, accumulating, has added) row t / of_scope of `rows`.
  void (*spread)(Rows rows, int64_t of_scope, int64_t cols, bool accumulate, Rows values, int64_t begin, int64_t end);
  // totals [experts + 1]: sums over the tokens of their shares, then of the shares' entropies.
  void (*score_totals)(Rows scores, int64_t experts, int64_t begin, int64_t end, float* totals);
};
CADRE_SIMD_TABLE(RouterTable, kRouterTable)

}  // namespace cadre::cpu
