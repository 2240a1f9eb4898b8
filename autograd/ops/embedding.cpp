#include "autograd/ops/embedding.h"

#include "kernels/embedding.h"

namespace cadre::autograd {

std::vector<TensorSpec> Embedding::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].dtype == Dtype::kI32 && in[0].shape.rank() == 1 && in[1].shape.rank() == 2, in,
          "ids i32 [tokens], table [vocabulary, h]");
  return {{in[1].dtype, Shape{in[0].shape[0], in[1].shape[1]}}};
}

void Embedding::forward(const Forward& f) const {
  kernels::embedding_forward(f.context.exec, f.in[0], f.in[1], f.out[0]);
}

void Embedding::backward_parameters(Backward& b) const {
  if (!b.wants(1)) return;
  const Backward::Target dtable = b.target(1);
  kernels::embedding_backward(b.context().exec, b.in(0), b.gradient(0), dtable.view, dtable.write);
}

}  // namespace cadre::autograd
