#include "autograd/ops/simple_experts.h"

#include "kernels/elementwise.h"

namespace cadre::autograd {
namespace {

enum Input : size_t { kX, kIds, kWeights, kBase, kConstants, kOutputFactors, kInputFactors };

}  // namespace

std::vector<TensorSpec> SimpleExperts::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 7 && in[kX].shape.rank() == 2 && in[kIds].shape.rank() == 2 &&
              in[kWeights].shape == in[kIds].shape && in[kIds].shape[0] == in[kX].shape[0],
          in, "x [tokens, h], ids and weights [tokens, k], base, constants, two factors or none");
  require(in[kBase].shape.rank() == 0 || in[kBase].shape == in[kX].shape, in, "base [tokens, h]");
  require(in[kConstants].shape.rank() == 0 || in[kConstants].shape.cols() == in[kX].shape[1], in,
          "constants [n, 3, h]");
  return {in[kX]};
}

void SimpleExperts::forward(const Forward& f) const {
  const kernels::Exec& exec = f.context.exec;
  f.in[kBase] ? kernels::copy(exec, f.in[kBase], f.out[0]) : kernels::fill(exec, f.out[0], 0);
  kernels::add_simple_experts(exec, experts_, f.in[kX], f.in[kIds], f.in[kWeights], f.in[kConstants], f.out[0]);
}

void SimpleExperts::backward_inputs(Backward& b) const {
  if (b.wants(kBase)) b.pass(kBase, 0);
  if (!b.wants(kX) && !b.wants(kWeights)) return;
  const TensorView x = b.in(kX), ids = b.in(kIds), weights = b.in(kWeights), constants = b.in(kConstants);
  const kernels::SimpleFactors factors{b.in(kOutputFactors), b.in(kInputFactors)};
  const Backward::Target dx = b.wants(kX) ? b.target(kX) : Backward::Target{};
  const TensorView dweights = b.wants(kWeights) ? b.target(kWeights).view : TensorView{};
  kernels::simple_experts_backward(b.context().exec, experts_, factors, x, ids, weights, constants, b.gradient(0),
                                   dx.view, dx.write, dweights);
}

void SimpleExperts::backward_parameters(Backward& b) const {
  if (!b.wants(kConstants)) return;
  const TensorView x = b.in(kX), ids = b.in(kIds), weights = b.in(kWeights), constants = b.in(kConstants);
  const kernels::SimpleFactors factors{b.in(kOutputFactors), b.in(kInputFactors)};
  const Backward::Target target = b.target(kConstants);
  kernels::simple_experts_gradient(b.context().exec, experts_, factors, x, ids, weights, constants, b.gradient(0),
                                   target.view, target.write);
}

}  // namespace cadre::autograd
