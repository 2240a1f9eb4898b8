#include "autograd/ops/router.h"

#include "kernels/elementwise.h"
#include "kernels/router.h"

namespace cadre::autograd {
namespace {

double read(TensorView view, int64_t i) {
  return view.dtype == Dtype::kF64 ? view.as<double>()[i] : static_cast<double>(view.as<float>()[i]);
}

// The fraction f_e of a scope's choices.
double fraction(TensorView counts, TensorView fractions, int64_t scope, int64_t expert) {
  if (fractions) return fractions.as<double>()[expert];
  const int64_t* row = counts.as<int64_t>() + scope * counts.cols();
  int64_t total = 0;
  for (int64_t e = 0; e < counts.cols(); ++e) total += row[e];
  return total == 0 ? 0 : static_cast<double>(row[expert]) / static_cast<double>(total);
}

}  // namespace

std::vector<TensorSpec> Router::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 3 && in[0].shape.rank() == 2, in, "logits [tokens, experts], replay or none, fractions or none");
  const int64_t tokens = in[0].shape[0], experts = in[0].shape[1], k = options_.top_k;
  require(k >= 1 && k <= experts, in, "1 <= top_k <= experts");
  require(options_.scopes >= 1 && tokens % options_.scopes == 0, in, "tokens divisible by scopes");
  require(in[1].shape.rank() == 0 || in[1].shape == Shape{tokens, k}, in, "replay [tokens, top_k]");
  require(in[2].shape.rank() == 0 || (in[2].shape == Shape{experts} && options_.scopes == 1), in,
          "fractions [experts], one scope");
  const Dtype dtype = in[0].dtype;
  const TensorSpec loss{Dtype::kF64, Shape{1}};
  return {{dtype, Shape{tokens, k}},
          loss,
          loss,
          {Dtype::kI32, Shape{tokens, k}},
          {dtype, Shape{tokens, experts}},
          {dtype, Shape{tokens}},
          {Dtype::kI64, Shape{options_.scopes, experts}},
          {dtype, Shape{options_.scopes, experts}}};
}

void Router::forward(const Forward& f) const {
  const auto& exec = f.context.exec;
  kernels::router_forward(exec, f.in[0], options_.renormalise, f.in[1], f.out[kProbs], f.out[kLse], f.out[kIds],
                          f.out[kWeights]);
  const TensorView counts = f.out[kCounts], prob_sums = f.out[kProbSums];
  double* z = f.out[kZLoss].as<double>();
  const Tensor lse_squared = Tensor::empty(f.context.allocator, f.in[0].dtype, Shape{1});
  kernels::router_statistics(exec, f.out[kProbs], f.out[kLse], f.out[kIds], counts, prob_sums, lse_squared);
  *z = options_.z_coef * read(lse_squared, 0) / options_.global_tokens;
  double balance = 0;
  const int64_t experts = counts.cols();
  for (int64_t s = 0; s < options_.scopes; ++s) {
    for (int64_t e = 0; e < experts; ++e) balance += fraction(counts, f.in[2], s, e) * read(prob_sums, s * experts + e);
  }
  *f.out[kBalanceLoss].as<double>() =
      options_.balance_coef * static_cast<double>(experts) * balance / options_.global_tokens;
}

void Router::balance_coefficients(TensorView counts, TensorView fractions, double factor, TensorView out) const {
  const int64_t experts = counts.cols();
  const double scale = factor * options_.balance_coef * static_cast<double>(experts) / options_.global_tokens;
  for (int64_t s = 0; s < options_.scopes; ++s) {
    for (int64_t e = 0; e < experts; ++e) {
      const double value = scale * fraction(counts, fractions, s, e);
      if (out.dtype == Dtype::kF64)
        out.as<double>()[s * experts + e] = value;
      else
        out.as<float>()[s * experts + e] = static_cast<float>(value);
    }
  }
}

void Router::backward_inputs(Backward& b) const {
  const Context& context = b.context();
  const TensorView probs = b.out(kProbs), ids = b.out(kIds);
  TensorView dweights = b.gradient(kWeights);
  Tensor zeros;
  if (!dweights) {
    zeros = Tensor::zeros(context.allocator, probs.dtype, ids.shape);
    dweights = zeros.view();
  }
  Tensor balance;
  if (b.gradient(kBalanceLoss) && options_.balance_coef != 0) {
    balance = Tensor::empty(context.allocator, probs.dtype, Shape{options_.scopes, probs.cols()});
    balance_coefficients(b.out(kCounts), b.in(2), *b.gradient(kBalanceLoss).as<double>(), balance);
  }
  const double z = b.gradient(kZLoss) ? *b.gradient(kZLoss).as<double>() * options_.z_coef / options_.global_tokens : 0;
  kernels::router_backward(context.exec, probs, b.out(kLse), ids, b.out(kWeights), options_.renormalise, dweights,
                           balance ? balance.view() : TensorView{}, z, b.target(0).view);
}

}  // namespace cadre::autograd
