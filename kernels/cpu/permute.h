#pragma once
// The f32 code of kernels/permute.h: planning (no vectors), and per instruction set, serial over tokens [begin, end),
// what adds rows up.

#include <cstdint>

#include "kernels/cpu/elementwise.h"
#include "kernels/permute.h"

namespace cadre::cpu {

inline constexpr int64_t kCombinedAtOnce = 64;  // rows of a token, so that their pointers fit on the stack

struct RowPlan {
  const int32_t* ids;
  const float* weights;  // or null
  int64_t tokens;
  int64_t k;
  int64_t experts;
  int64_t all_experts;  // ids are below; those that are not planned have no row
  int64_t capacity;
  kernels::DropPolicy policy;
  int64_t* offsets;
  int32_t* row_of_slot;
  int32_t* slot_of_row;
};
// A stable counting sort: each worker counts and places one range of slots. Throws InternalError for an id out of
// range.
void plan_rows(ThreadPool& threads, const RowPlan& plan);

struct CombineForward {
  Rows y;
  const int32_t* row_of_slot;
  const float* weights;  // or null: 1
  Rows out;
  bool accumulate;
  int64_t cols;
  int64_t k;
};

struct CombineBackward {
  Rows y;
  const int32_t* row_of_slot;
  const float* weights;
  Rows dout;
  Rows dy;  // may be y
  float* dweights;
  int64_t cols;
  int64_t k;
};

struct PermuteTable {
  void (*combine)(const CombineForward& combine, int64_t begin, int64_t end);
  void (*combine_backward)(const CombineBackward& combine, int64_t begin, int64_t end);
};
CADRE_SIMD_TABLE(PermuteTable, kPermuteTable)

}  // namespace cadre::cpu
