#pragma once
// Exchanges of rows as pairs of ops, so that what stands between them on the tape runs while rows are under way:
//
//   StartDispatch  whole -> part (under way)     AwaitDispatch  part (under way) -> part
//   StartCombine   part -> whole (under way)     AwaitCombine   whole (under way) -> whole
//
// `whole` [n, h] is what a rank sends out and gets back, in parts. The adjoint of an exchange is the exchange the other
// way round: the backward of the wait starts it, the backward of the start waits for it.
//
// Collective, forward, backward and when recomputed: all ranks of the group apply these ops, with rows or without, and
// in the same order.

#include <memory>

#include "autograd/op.h"
#include "parallel/comm/exposed_time.h"
#include "parallel/expert/transport.h"

namespace cadre::parallel {

// What the parts of one whole share.
struct WholeExchange {
  const RowTransport& transport;  // outlives the tape, as does `exposed`
  int rank;
  int layer;
  Shape shape;           // of the whole that is sent out
  int64_t parts;         // that it is sent out in
  ExposedTime* exposed;  // optional
  Tensor gradient = {};  // of the whole that is sent out, filled by the parts
  int64_t filled = 0;    // parts
};

// One part, shared by its four ops. At most one exchange of it is under way.
class PartExchange {
 public:
  // Its rows of the whole begin at `first_row`; `traffic` is the dispatch's.
  PartExchange(std::shared_ptr<WholeExchange> whole, RowTraffic traffic, int64_t first_row);
  int64_t sent() const { return sent_; }
  int64_t received() const { return received_; }
  WholeExchange& whole() { return *whole_; }

  void start_dispatch(Allocator& allocator, const Tensor& whole, Tensor part);
  void start_combine(Allocator& allocator, Tensor part, const Tensor& whole);
  // Returns the part and lets go of the buffers. Nothing, when nothing is under way.
  Tensor wait();

 private:
  std::shared_ptr<WholeExchange> whole_;
  RowTraffic traffic_, back_;
  int64_t first_row_, sent_, received_;
  Tensor rows_, part_;
  WorkPtr work_;  // destroyed before its buffers
};
using PartExchangePtr = std::shared_ptr<PartExchange>;

// whole [n, h] -> part [received, h], not to be read before AwaitDispatch. Nothing else reads the whole, and its rows
// that no part sends have no gradient.
class StartDispatch final : public autograd::Op {
 public:
  explicit StartDispatch(PartExchangePtr exchange) : exchange_(std::move(exchange)) {}
  const char* name() const override { return "start_dispatch"; }
  std::vector<autograd::TensorSpec> infer(std::span<const autograd::TensorSpec> in) const override;
  void forward(const autograd::Forward& f) const override;
  autograd::Needs needs() const override { return {}; }
  void backward_inputs(autograd::Backward& b) const override;

 private:
  PartExchangePtr exchange_;
};

// part -> part, in place.
class AwaitDispatch final : public autograd::Op {
 public:
  explicit AwaitDispatch(PartExchangePtr exchange) : exchange_(std::move(exchange)) {}
  const char* name() const override { return "await_dispatch"; }
  std::vector<autograd::TensorSpec> infer(std::span<const autograd::TensorSpec> in) const override;
  void forward(const autograd::Forward&) const override { exchange_->wait(); }
  int shares(size_t) const override { return 0; }
  autograd::Needs needs() const override { return {}; }
  void backward_inputs(autograd::Backward& b) const override;

 private:
  PartExchangePtr exchange_;
};

// part [received, h], the whole with the parts before or none -> whole [rows, h], in place, not to be read before all
// parts are awaited.
class StartCombine final : public autograd::Op {
 public:
  StartCombine(PartExchangePtr exchange, int64_t rows) : exchange_(std::move(exchange)), rows_(rows) {}
  const char* name() const override { return "start_combine"; }
  std::vector<autograd::TensorSpec> infer(std::span<const autograd::TensorSpec> in) const override;
  void forward(const autograd::Forward& f) const override;
  int shares(size_t) const override { return 1; }
  autograd::Needs needs() const override { return {}; }
  void backward_inputs(autograd::Backward& b) const override;

 private:
  PartExchangePtr exchange_;
  int64_t rows_;
};

// whole -> whole, in place, with this part arrived.
class AwaitCombine final : public autograd::Op {
 public:
  explicit AwaitCombine(PartExchangePtr exchange) : exchange_(std::move(exchange)) {}
  const char* name() const override { return "await_combine"; }
  std::vector<autograd::TensorSpec> infer(std::span<const autograd::TensorSpec> in) const override;
  void forward(const autograd::Forward&) const override { exchange_->wait(); }
  int shares(size_t) const override { return 0; }
  autograd::Needs needs() const override { return {}; }
  void backward_inputs(autograd::Backward& b) const override;

 private:
  PartExchangePtr exchange_;
};

// Rows of a rank without experts, which nothing computes: x -> x. Its backward reads x, as the backward of experts
// does, so that an exchange that is recomputed is so on all ranks.
class PassRows final : public autograd::Op {
 public:
  const char* name() const override { return "pass_rows"; }
  std::vector<autograd::TensorSpec> infer(std::span<const autograd::TensorSpec> in) const override;
  void forward(const autograd::Forward&) const override {}
  int shares(size_t) const override { return 0; }
  autograd::Needs needs() const override { return {.inputs = 1}; }
  void backward_inputs(autograd::Backward& b) const override;
};

}  // namespace cadre::parallel
