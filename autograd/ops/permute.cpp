#include "autograd/ops/permute.h"

#include "kernels/elementwise.h"

namespace cadre::autograd {
namespace {

// out[i] = x[order[i]].
void take_rows(const Context& context, TensorView x, TensorView order, TensorView out) {
  int64_t rows = order.shape.elements();
  const TensorView end{&rows, Dtype::kI64, Shape{1}, 1};
  kernels::gather_rows(context.exec, x, order, end, 1, out);
}

}  // namespace

std::vector<TensorSpec> PlanRows::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2 && in[0].shape == in[1].shape && in[0].dtype == Dtype::kI32, in,
          "ids i32 [tokens, k], weights [tokens, k]");
  const Shape slots{in[0].shape.elements()};
  require(rows_ <= in[0].shape.elements(), in, "at most a row for each slot");
  return {{Dtype::kI64, Shape{experts_ + 1}}, {Dtype::kI32, slots}, {Dtype::kI32, rows_ < 0 ? slots : Shape{rows_}}};
}

void PlanRows::forward(const Forward& f) const {
  kernels::plan_rows(f.context.exec, f.in[0], f.in[1], experts_, capacity_, policy_, f.out[0], f.out[1], f.out[2],
                     whole_);
}

std::vector<TensorSpec> GatherRows::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 4 && in[0].shape.rank() == 2 && in[1].shape.rank() == 1 && in[2].shape.rank() == 1 &&
              in[3].shape.rank() == 1,
          in, "x [tokens, h], slot_of_row [n], row_of_slot [tokens * k], offsets [experts + 1]");
  const int64_t tokens = in[0].shape[0], slots = in[2].shape[0];
  require(tokens == 0 ? slots == 0 : slots % tokens == 0, in, "a whole number of slots for each token");
  return {{in[0].dtype, Shape{in[1].shape[0], in[0].shape[1]}}};
}

void GatherRows::forward(const Forward& f) const {
  const int64_t tokens = f.in[0].rows();
  const int64_t k = tokens == 0 ? 1 : f.in[2].cols() / tokens;
  kernels::gather_rows(f.context.exec, f.in[0], f.in[1], f.in[3], k, f.out[0]);
}

void GatherRows::backward_inputs(Backward& b) const {
  const Backward::Target dx = b.target(0);
  const int64_t tokens = dx.view.rows();
  const int64_t k = tokens == 0 ? 1 : b.in(2).cols() / tokens;
  kernels::gather_rows_backward(b.context().exec, b.gradient(0), b.in(2), k, dx.view, dx.write);
}

std::vector<TensorSpec> PermuteRows::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 3 && in[0].shape.rank() == 2 && in[1].shape.rank() == 1 && in[1].shape == in[2].shape &&
              in[1].shape[0] <= in[0].shape[0],
          in, "x [n, h], order and inverse [m], m at most n");
  return {{in[0].dtype, Shape{in[1].shape[0], in[0].shape[1]}}};
}

void PermuteRows::forward(const Forward& f) const { take_rows(f.context, f.in[0], f.in[1], f.out[0]); }

void PermuteRows::backward_inputs(Backward& b) const {
  take_rows(b.context(), b.gradient(0), b.in(2), b.target(0).view);
}

std::vector<TensorSpec> CombineRows::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 4 && in[0].shape.rank() == 2 && in[2].shape.rank() == 2 &&
              in[1].shape == Shape{in[2].shape.elements()},
          in, "y [rows, h], row_of_slot [tokens * k], weights [tokens, k], base [tokens, h] or none");
  const Shape out{in[2].shape[0], in[0].shape[1]};
  require(in[3].shape.rank() == 0 || in[3].shape == out, in, "base [tokens, h]");
  return {{in[0].dtype, out}};
}

void CombineRows::forward(const Forward& f) const {
  if (f.in[3]) kernels::copy(f.context.exec, f.in[3], f.out[0]);
  kernels::combine_rows(f.context.exec, f.in[0], f.in[1], f.in[2], f.out[0],
                        f.in[3] ? kernels::Write::kAccumulate : kernels::Write::kOverwrite);
}

void CombineRows::backward_inputs(Backward& b) const {
  const Context& context = b.context();
  if (b.wants(3)) b.pass(3, 0);
  Tensor unused;
  const auto target = [&](size_t input) {
    if (b.wants(input)) return b.target(input).view;
    unused = Tensor::empty(context.allocator, b.in(input).dtype, b.in(input).shape);
    return unused.view();
  };
  if (!b.wants(0) && !b.wants(2)) return;
  const TensorView dy = target(0), dweights = target(2);
  kernels::combine_rows_backward(context.exec, b.in(0), b.in(1), b.in(2), b.gradient(0), dy, dweights);
}

}  // namespace cadre::autograd
