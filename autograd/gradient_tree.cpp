#include "autograd/gradient_tree.h"

#include "kernels/elementwise.h"

namespace cadre::autograd {

GradientTrees::GradientTrees(const Context& context, ParameterStore& store) : context_(context), store_(store) {
  for (const auto& parameter : store.parameters()) {
    std::vector<Tree>& trees = trees_.emplace_back(static_cast<size_t>(parameter->uses));
    if (parameter->lanes == 1) trees[0].sums.push_back(parameter->gradient);
    for (size_t use = 1; use < trees.size(); ++use) {
      trees[use].sums.push_back(Tensor::empty(context.allocator, parameter->gradient.dtype(), parameter->shape));
      other_uses_.push_back({parameter.get(), trees[use].sums[0]});
    }
  }
  start_step();
}

GradientTrees::~GradientTrees() {
  for (const auto& parameter : store_.parameters()) parameter->write_gradient_together();
}

void GradientTrees::start_step() {
  for (const auto& parameter : store_.parameters()) {
    for (int use = 0; use < parameter->uses; ++use) {
      tree_of(*parameter, use).heights.clear();
      next_leaf(*parameter, use);
    }
  }
}

void GradientTrees::next_leaf(Parameter& parameter, int use) {
  Tree& tree = tree_of(parameter, use);
  const size_t place = tree.heights.size();
  if (place == tree.sums.size()) {
    const int64_t parts = parameter.groups() * parameter.lanes;
    const Shape shape{parts, parameter.shape.elements() / parameter.groups()};
    tree.sums.push_back(Tensor::empty(context_.allocator, parameter.gradient.dtype(), shape));
  }
  parameter.write_gradient_to(use, tree.sums[place], parameter.lanes);
}

void GradientTrees::complete(Parameter& parameter, bool last) {
  for (int use = 0; use < parameter.uses; ++use) {
    if (parameter.uses == 1 || !parameter.gradient_empty(use)) add_leaf(parameter, use);
    last ? finish(parameter, use) : next_leaf(parameter, use);
  }
}

void GradientTrees::add_leaf(Parameter& parameter, int use) {
  parameter.zero_gradient_if_empty(use);
  Tree& tree = tree_of(parameter, use);
  tree.heights.push_back(0);
  while (tree.heights.size() > 1 && tree.heights.back() == tree.heights[tree.heights.size() - 2]) merge(tree);
}

// The trees that are not whole, from the right.
void GradientTrees::finish(Parameter& parameter, int use) {
  Tree& tree = tree_of(parameter, use);
  if (tree.heights.empty()) parameter.zero_gradient_if_empty(use);
  while (tree.heights.size() > 1) merge(tree);
  if (parameter.lanes > 1) add_lanes(parameter, tree.sums.front());
}

void GradientTrees::merge(Tree& tree) {
  const size_t right = tree.heights.size() - 1;
  kernels::accumulate(context_.exec, tree.sums[right].reshape(tree.sums[right - 1].shape()), tree.sums[right - 1]);
  tree.heights.pop_back();
  ++tree.heights.back();
}

void GradientTrees::add_lanes(Parameter& parameter, const Tensor& lanes) {
  const int64_t count = parameter.lanes;
  for (int64_t group = 0; group < parameter.groups(); ++group) {
    const auto lane = [&](int64_t i) { return lanes.slice(group * count + i, group * count + i + 1); };
    int64_t step = 1;
    for (; 2 * step < count; step *= 2) {
      for (int64_t i = 0; i + step < count; i += 2 * step) kernels::accumulate(context_.exec, lane(i + step), lane(i));
    }
    const Tensor sum = parameter.gradient_of(group, 1);
    kernels::add(context_.exec, lane(0), lane(step), sum.reshape(lane(0).shape()));
  }
}

void GradientTrees::join(const Use& use) { kernels::accumulate(context_.exec, use.gradient, use.parameter->gradient); }

}  // namespace cadre::autograd
