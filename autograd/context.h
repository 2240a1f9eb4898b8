#pragma once
// What the ops of one rank run with. Passed everywhere, owned by the program.

#include <functional>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::autograd {

class Profiler;

struct Context {
  kernels::Exec exec;
  Allocator& allocator;
  Dtype dtype = Dtype::kF32;     // of activations and parameters: f32, or f64 (reference kernels)
  Profiler* profiler = nullptr;  // optional; not owned
  std::function<void()> poll{};  // lets communication make progress; called after every op
};

}  // namespace cadre::autograd
