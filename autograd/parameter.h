#pragma once
// A trainable tensor: a reshaped slice of flat storage (parameter_store.h), with its gradient and its packed forms.

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
  int expert = -1;     // global expert id, or -1
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
  // Whether the next contribution to these groups overwrites instead of adding, which it is taken to do. Where that
  // holds for some of them only, those become zero and all are added to.
  bool claim_empty(int64_t first, int64_t count);
  bool gradient_empty() const;  // nothing reached it
  void clear_gradient() { filled_.assign(filled_.size(), false); }
  // Groups that nothing reached are zero.
  void zero_gradient_if_empty();

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
  Packed packed_[2];
  int64_t version_ = 0;
  std::vector<bool> filled_;  // by group; none known: all empty
};

// Weights of any rank as [groups, r, c].
TensorView as_groups(TensorView weights);

}  // namespace cadre::autograd
