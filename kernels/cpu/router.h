#pragma once
// The f32 code of kernels/router.h, per instruction set. Serial, over tokens [begin, end).

#include <cstdint>

#include "kernels/cpu/elementwise.h"

namespace cadre::cpu {

inline constexpr int64_t kMostRouterChoices = 64;  // k, so that a token's choices fit on the stack

struct RouterForward {
  Rows logits;
  bool renormalise;
  const int32_t* replay;  // or null
  Rows probs;
  float* lse;
  int32_t* ids;
  float* weights;
  int64_t experts;
  int64_t k;
};

struct RouterBackward {
  Rows probs;
  const float* lse;
  const int32_t* ids;
  bool renormalise;
  const float* dweights;
  Rows balance;  // or null
  int64_t scope_tokens;
  float z_scale;
  Rows dlogits;
  int64_t experts;
  int64_t k;
};

struct RouterTable {
  void (*forward)(const RouterForward& router, int64_t begin, int64_t end);
  void (*backward)(const RouterBackward& router, int64_t begin, int64_t end);
  // sums [cols] = sum of rows [begin, end) of probs from column `first`, in order.
  void (*column_sums)(Rows probs, int64_t begin, int64_t end, int64_t first, int64_t cols, float* sums);
};
CADRE_SIMD_TABLE(RouterTable, kRouterTable)

}  // namespace cadre::cpu
