#pragma once
// Serial pieces of the f32 matrix products, per instruction set; kernels/gemm.cpp shares them out among threads.
//
// Every product is a chain of fma(a, b, sum) in order of the contraction index, starting at 0 or at the output's value
// (accumulate), so the bits of an element depend on nothing but its operands.

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace cadre::cpu {

// out[rows, columns of the panels] (+)= a[rows, k] * B. B is packed, `panels`: panel 0, [n / width][k][width]; or it
// stands as a matrix [k, n], and panels are packed in passing.
struct MultiplyArguments {
  const float* a;
  int64_t a_stride;
  int64_t rows;
  int64_t k;
  const float* panels;  // or null
  const float* matrix;
  int64_t matrix_stride;
  int64_t panel_begin;
  int64_t panel_end;
  int64_t n;
  float* out;  // row 0, column 0
  int64_t out_stride;
  bool accumulate;
  float* scratch;  // multiply_scratch floats
};

// source [rows, columns]. As stored: k = rows, n = columns, rows [begin, end) are packed. Transposed: n = rows,
// k = columns, panels [begin, end) are packed.
struct PackArguments {
  const float* source;
  int64_t source_stride;
  int64_t rows;
  int64_t columns;
  int64_t begin;
  int64_t end;
  float* panels;
};

// dw[row_begin .. row_end, column_begin .. column_end] (+)= dy^T x, dy [rows, rows of dw], x [rows, columns of dw].
struct WeightGradientArguments {
  const float* dy;
  int64_t dy_stride;
  const float* x;
  int64_t x_stride;
  int64_t rows;  // of dy and x; at least 1
  int64_t row_begin;
  int64_t row_end;
  int64_t column_begin;
  int64_t column_end;
  float* dw;  // row 0, column 0
  int64_t dw_stride;
  bool accumulate;
  float* scratch;  // weight_gradient_scratch floats
};

struct GemmTable {
  int64_t panel_width;
  int64_t (*row_block)(int64_t k);  // rows that are multiplied with one panel before the next
  void (*multiply)(const MultiplyArguments&);
  int64_t (*multiply_scratch)(int64_t k);
  void (*pack_as_stored)(const PackArguments&);
  void (*pack_transposed)(const PackArguments&);
  void (*weight_gradient)(const WeightGradientArguments&);
  int64_t weight_gradient_scratch;
};

CADRE_SIMD_TABLE(GemmTable, kGemmTable)

}  // namespace cadre::cpu
