#include "parallel/expert/exchange.h"

#include <numeric>

namespace cadre::parallel {
namespace {

using autograd::TensorSpec;

int64_t sum_of(const std::vector<int64_t>& rows) { return std::accumulate(rows.begin(), rows.end(), int64_t{0}); }

}  // namespace

PartExchange::PartExchange(std::shared_ptr<WholeExchange> whole, RowTraffic traffic, int64_t first_row)
    : whole_(std::move(whole)),
      traffic_(std::move(traffic)),
      back_(traffic_.reversed()),
      first_row_(first_row),
      sent_(sum_of(traffic_.sent_by(whole_->rank))),
      received_(sum_of(traffic_.received_by(whole_->rank))) {}

void PartExchange::start_dispatch(Allocator& allocator, const Tensor& whole, Tensor part) {
  rows_ = whole.slice(first_row_, first_row_ + sent_);
  part_ = std::move(part);
  work_ = whole_->transport.start(allocator, rows_, part_, traffic_, {"expert dispatch", whole_->layer});
}

void PartExchange::start_combine(Allocator& allocator, Tensor part, const Tensor& whole) {
  rows_ = whole.slice(first_row_, first_row_ + sent_);
  part_ = std::move(part);
  work_ = whole_->transport.start(allocator, part_, rows_, back_, {"expert combine", whole_->layer});
}

Tensor PartExchange::wait() {
  if (!work_) return {};
  wait_for(*work_, whole_->exposed);
  work_.reset();
  rows_ = Tensor();
  return std::move(part_);
}

std::vector<TensorSpec> StartDispatch::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape == exchange_->whole().shape, in, "the whole [n, h]");
  return {{in[0].dtype, in[0].shape.with(0, exchange_->received())}};
}

void StartDispatch::forward(const autograd::Forward& f) const {
  exchange_->start_dispatch(f.context.allocator, f.in_owners[0], f.out_owners[0]);
}

void StartDispatch::backward_inputs(autograd::Backward& b) const {
  exchange_->wait();
  WholeExchange& whole = exchange_->whole();
  if (++whole.filled == whole.parts) b.give(0, std::move(whole.gradient));
}

std::vector<TensorSpec> AwaitDispatch::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2, in, "a part [rows, h]");
  return {in[0]};
}

// The parts share the gradient's buffer, each with rows of its own.
void AwaitDispatch::backward_inputs(autograd::Backward& b) const {
  WholeExchange& whole = exchange_->whole();
  const Tensor arrived = b.gradient_owner(0);
  if (!whole.gradient) whole.gradient = Tensor::empty(b.context().allocator, arrived.dtype(), whole.shape);
  exchange_->start_combine(b.context().allocator, arrived, whole.gradient);
  b.pass(0, 0);
}

std::vector<TensorSpec> StartCombine::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2 && in[0].shape[0] == exchange_->received(), in,
          "a part [received, h], the whole or none");
  const Shape whole = in[0].shape.with(0, rows_);
  require(in[1].shape.rank() == 0 || in[1].shape == whole, in, "a part [received, h], the whole [rows, h] or none");
  return {{in[0].dtype, whole}};
}

void StartCombine::forward(const autograd::Forward& f) const {
  exchange_->start_combine(f.context.allocator, f.in_owners[0], f.out_owners[0]);
}

void StartCombine::backward_inputs(autograd::Backward& b) const {
  b.give(0, exchange_->wait());
  if (b.wants(1)) b.pass(1, 0);
}

std::vector<TensorSpec> AwaitCombine::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2, in, "the whole [rows, h]");
  return {in[0]};
}

void AwaitCombine::backward_inputs(autograd::Backward& b) const {
  const Tensor arrived = b.gradient_owner(0);
  Allocator& allocator = b.context().allocator;
  const Shape part = arrived.shape().with(0, exchange_->received());
  exchange_->start_dispatch(allocator, arrived, Tensor::empty(allocator, arrived.dtype(), part));
  b.pass(0, 0);
}

std::vector<TensorSpec> PassRows::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1, in, "x");
  return {in[0]};
}

void PassRows::backward_inputs(autograd::Backward& b) const {
  b.in(0);
  b.pass(0, 0);
}

}  // namespace cadre::parallel
