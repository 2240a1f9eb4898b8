#pragma once
// The f32 code of kernels/activation.h, per instruction set. Serial, over rows [begin, end); `width` is the width of
// out. dh may be h.

#include <cstdint>

#include "kernels/cpu/elementwise.h"

namespace cadre::cpu {

struct ActivationTable {
  void (*swiglu_forward)(Rows h, Rows out, int64_t width, int64_t begin, int64_t end);
  void (*swiglu_backward)(Rows h, Rows dout, Rows dh, int64_t width, int64_t begin, int64_t end);
  void (*gelu_forward)(Rows h, Rows out, int64_t width, int64_t begin, int64_t end);
  void (*gelu_backward)(Rows h, Rows dout, Rows dh, int64_t width, int64_t begin, int64_t end);
};
CADRE_SIMD_TABLE(ActivationTable, kActivationTable)

}  // namespace cadre::cpu
