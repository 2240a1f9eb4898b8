#pragma once
// Gradients whose bits do not depend on how micro-batches and stages are shared out among ranks.
//
// Floating-point sums depend on their order, so here the order is fixed: each micro-batch's gradient is a leaf of its
// own, and leaves are added in the binary tree over their index (aligned blocks of powers of two; what is missing on
// the right is left out). A rank's micro-batches are consecutive; when their number is a power of two, its sum is a
// node of the tree over the global batch, and a sum over ranks in the same kind of tree completes it.
//
// What is summed apart:
// - Lanes of an expert's weights: rows that come from another rank of the group are another micro-batch of the global
//   batch. Each lane has a tree; at the end the lanes are added in the tree over them, since together they are
//   consecutive, too.
// - Uses of a parameter that may be in different pipeline stages (a tied embedding). Each has a tree, and is summed
// over
//   ranks apart; then they are added.

#include <vector>

#include "autograd/parameter_store.h"

namespace cadre::autograd {

// The trees of all parameters of a store, which must be materialised with gradients and outlive this. Backwards write
// to the trees as long as this lives.
class GradientTrees {
 public:
  GradientTrees(const Context& context, ParameterStore& store);
  ~GradientTrees();
  GradientTrees(const GradientTrees&) = delete;
  GradientTrees& operator=(const GradientTrees&) = delete;

  void start_step();
  // What reached the parameter since the last call is the whole gradient of one more micro-batch, for the uses that it
  // reached. After the last call of the step Parameter::gradient is the sum of all; with several uses, of the first.
  void complete(Parameter& parameter, bool last);

  // The sums of the uses behind the first, to be summed over the ranks that Parameter::gradient is summed over.
  struct Use {
    Parameter* parameter;
    Tensor gradient;
  };
  const std::vector<Use>& other_uses() const { return other_uses_; }
  // When both are: adds a use's sum to Parameter::gradient.
  void join(const Use& use);

 private:
  // Sums of 2^height leaves, oldest first; then the next leaf. Buffers are made once. [groups * lanes, ...]
  struct Tree {
    std::vector<Tensor> sums;
    std::vector<int> heights;  // of the finished ones
  };
  Tree& tree_of(const Parameter& parameter, int use) {
    return trees_[static_cast<size_t>(parameter.index)][static_cast<size_t>(use)];
  }
  void next_leaf(Parameter& parameter, int use);
  void add_leaf(Parameter& parameter, int use);
  void finish(Parameter& parameter, int use);
  void merge(Tree& tree);
  void add_lanes(Parameter& parameter, const Tensor& lanes);

  const Context& context_;
  ParameterStore& store_;
  std::vector<std::vector<Tree>> trees_;  // by Parameter::index and use
  std::vector<Use> other_uses_;
};

}  // namespace cadre::autograd
