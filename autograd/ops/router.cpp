#include "autograd/ops/router.h"

#include "kernels/elementwise.h"
#include "kernels/router.h"

namespace cadre::autograd {

std::vector<TensorSpec> RouterScores::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2, in, "logits [tokens, experts], mask or none");
  const int64_t tokens = in[0].shape[0], experts = in[0].shape[1];
  require(in[1].shape.rank() == 0 || in[1].shape == Shape{experts}, in, "mask [experts]");
  return {in[0], {in[0].dtype, Shape{tokens}}};
}

void RouterScores::forward(const Forward& f) const {
  const auto kernel = kind_ == ScoreKind::kSoftmax ? kernels::router_softmax : kernels::router_sigmoid;
  kernel(f.context.exec, f.in[0], f.in[1], f.out[kScores], f.out[kLse]);
}

Needs RouterScores::needs() const {
  if (kind_ == ScoreKind::kSoftmax) return {.outputs = 0b01};
  return {.inputs = 0b11, .outputs = 0b11};
}

void RouterScores::backward_inputs(Backward& b) const {
  const auto& exec = b.context().exec;
  const TensorView dscores = b.gradient(kScores), dlse = b.gradient(kLse), dlogits = b.target(0).view;
  if (kind_ == ScoreKind::kSoftmax) {
    kernels::router_softmax_backward(exec, b.out(kScores), dscores, dlse, dlogits);
  } else {
    kernels::router_sigmoid_backward(exec, b.in(0), b.in(1), b.out(kScores), b.out(kLse), dscores, dlse, dlogits);
  }
}

std::vector<TensorSpec> ChooseExperts::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 3 && in[0].shape.rank() == 2, in, "scores [tokens, experts], bias or none, ids or none");
  const int64_t tokens = in[0].shape[0], experts = in[0].shape[1];
  require(top_k_ >= 1 && top_k_ <= experts, in, "1 <= top_k <= experts");
  require(in[1].shape.rank() == 0 || in[1].shape == Shape{experts}, in, "bias [experts]");
  require(in[2].shape.rank() == 0 || in[2].shape == Shape{tokens, top_k_}, in, "ids [tokens, top_k]");
  return {{Dtype::kI32, Shape{tokens, top_k_}}};
}

void ChooseExperts::forward(const Forward& f) const {
  if (f.in[2]) return kernels::copy(f.context.exec, f.in[2], f.out[0]);
  kernels::choose_experts(f.context.exec, f.in[0], f.in[1], choice_, f.out[0]);
}

std::vector<TensorSpec> GateWeights::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2 && in[1].shape.rank() == 2 && in[0].shape[0] == in[1].shape[0], in,
          "scores [tokens, experts], ids [tokens, k]");
  return {{in[0].dtype, in[1].shape}};
}

void GateWeights::forward(const Forward& f) const {
  kernels::gate_weights(f.context.exec, f.in[0], f.in[1], renormalise_, scale_, f.out[0]);
}

void GateWeights::backward_inputs(Backward& b) const {
  const Backward::Target dscores = b.target(0);
  kernels::gate_weights_backward(b.context().exec, b.in(0), b.in(1), renormalise_, scale_, b.gradient(0), dscores.view,
                                 dscores.write);
}

std::vector<TensorSpec> SpreadWeights::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2 && in[0].shape == in[1].shape, in, "weights and ids [tokens, k]");
  return {{in[0].dtype, Shape{in[0].shape[0], experts_}}};
}

void SpreadWeights::forward(const Forward& f) const {
  kernels::spread_weights(f.context.exec, f.in[0], f.in[1], f.out[0]);
}

void SpreadWeights::backward_inputs(Backward& b) const {
  kernels::spread_weights_backward(b.context().exec, b.gradient(0), b.in(1), b.target(0).view);
}

}  // namespace cadre::autograd
