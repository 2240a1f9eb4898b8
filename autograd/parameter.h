#pragma once
// A trainable tensor: a reshaped slice of flat storage (parameter_store.h), with its gradient and its packed forms.

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "autograd/context.h"
#include "core/tensor.h"
#include "kernels/gemm.h"

namespace cadre::autograd {

// The unit of identity: what a checkpoint names, and what has its own hyper-parameters, step count and norm. A stacked
// expert tensor has one segment (or more) for each expert; any other parameter has one.
struct Segment {
  std::string name;  // global, e.g. "layers.3.moe.experts.17.w1"
  Shape shape;
  int64_t offset = 0;  // elements from the parameter's start
  int expert = -1;     // its place among the layer's experts, or -1
  int64_t count() const { return shape.elements(); }
};

struct Parameter {
  std::string name;
  Shape shape;
  std::vector<Segment> segments;
  bool decays = true;   // norms, biases and embeddings usually do not
  double init_std = 0;  // normal(0, init_std); negative: constant ones
  int64_t offset = 0;   // elements into the flat storage
  int index = -1;       // position in the store
  int lanes = 1;        // of a stack: parts of a group's gradient that other layouts compute apart (gradient_tree.h)
  int uses = 1;         // places in the model, which may be in different pipeline stages

  Tensor value;
  Tensor gradient;

  // Storage for a gradient that lives only until it is given back; null: `gradient` is there for good, or never.
  std::function<Tensor()> lend_gradient;
  bool trains() const { return gradient || lend_gradient; }
  // Makes sure that `gradient` has storage.
  void borrow_gradient();
  void give_back_gradient();

  // Groups of a stack [groups, r, c] may be used, and get their gradients, apart; any other tensor is one group.
  int64_t groups() const { return shape.rank() == 3 ? shape[0] : 1; }
  Tensor value_of(int64_t first, int64_t count) const;
  Tensor gradient_of(int64_t first, int64_t count) const;

  // Where a contribution to the gradient goes. `empty`: it overwrites instead of adding.
  struct Target {
    Tensor gradient;
    bool empty;
  };
  // Of groups [first, first + count) and one use; from then on they are not empty. Where some of them only were, those
  // are zeroed. With lanes that are kept apart: [count * lanes, r, c].
  Target claim(int64_t first, int64_t count, int use);
  bool gradient_empty(int use = 0) const;  // nothing reached it
  void clear_gradient();
  // Groups that nothing reached are zero.
  void zero_gradient_if_empty(int use = 0);
  // Contributions of a use go to `target` [groups * target_lanes, ...], which counts as empty.
  void write_gradient_to(int use, Tensor target, int target_lanes);
  // All go to `gradient`, which counts as empty.
  void write_gradient_together() { slots_.assign(1, {}); }

  // Groups of the value for matrix products; `part` is value or value_of. Packed on first use after touch() for the
  // forward, which cannot do without, and on second use for the input gradient: with one micro-batch a step it is never
  // worth it.
  kernels::RightOperand operand(const Context& context, kernels::Operand operand, TensorView part);
  // The value changed: packed forms are stale.
  void touch() { ++version_; }

 private:
  struct Packed {
    Tensor storage;
    kernels::RightOperand operand;
    int64_t version = -1;       // that is packed
    std::vector<int64_t> used;  // by first group: version that was last asked for
  };
  // Of a use.
  struct Slot {
    Tensor target;  // none: the gradient
    int lanes = 1;
    std::vector<bool> filled;  // by group and lane; none known: all empty
  };
  Slot& slot_of(int use) { return slots_[std::min(static_cast<size_t>(use), slots_.size() - 1)]; }
  Packed packed_[2];
  int64_t version_ = 0;
  std::vector<Slot> slots_ = std::vector<Slot>(1);  // by use; one: all uses share it
};

// Weights of any rank as [groups, r, c].
TensorView as_groups(TensorView weights);

}  // namespace cadre::autograd
