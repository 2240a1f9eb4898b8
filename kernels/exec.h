#pragma once
// What a kernel runs on. Kernels allocate nothing, log nothing and know nothing of gradients; outputs are given by the
// caller and may hold garbage on entry unless a function accumulates.
//
// The element type picks the implementation: f64 runs kernels/reference (the truth, plain C++), f32 runs kernels/cpu in
// the widest instruction set of the machine, or in the one that `isa` names.

#include <string_view>

#include "core/runtime/thread_pool.h"

namespace cadre::kernels {

enum class Isa { kPortable, kAvx2, kAvx512 };

// The widest instruction set that this machine runs and this binary holds.
Isa best_isa();
// Every instruction set that this machine runs and this binary holds, narrowest first.
bool isa_available(Isa isa);
std::string_view name_of(Isa isa);

struct Exec {
  ThreadPool& threads;
  Isa isa;
  // Kernels check their operands and return: for what a model needs, without computing it. Outputs are left as they
  // are, but for plan_rows, which gives every expert its even share, since the sizes of what follows hang on it.
  bool dry = false;
};

// Whether an output is overwritten or added to.
enum class Write { kOverwrite, kAccumulate };

}  // namespace cadre::kernels
