#pragma once
// All-to-all over rows as an op: every rank gives each other rank a run of its rows. Its adjoint is the same exchange
// backwards.

#include <vector>

#include "autograd/op.h"
#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// x [n, h], of which sum(send_rows) from `first_row` are sent, sorted by receiver -> [sum(receive_rows), h], sorted by
// sender. x may be sent in several exchanges of rows that are disjoint, and by nothing else.
// Collective, forward, backward and when it is recomputed: all ranks of the communicator apply it, with rows or
// without, and in the same order. The communicator must outlive the tape.
class ExchangeRows final : public autograd::Op {
 public:
  ExchangeRows(Communicator& communicator, std::vector<int64_t> send_rows, std::vector<int64_t> receive_rows,
               CollectiveLabel label, int64_t first_row = 0)
      : communicator_(communicator),
        send_rows_(std::move(send_rows)),
        receive_rows_(std::move(receive_rows)),
        label_(label),
        first_row_(first_row) {}
  const char* name() const override { return "exchange_rows"; }
  std::vector<autograd::TensorSpec> infer(std::span<const autograd::TensorSpec> in) const override;
  void forward(const autograd::Forward& f) const override;
  autograd::Needs needs() const override { return {}; }
  void backward_inputs(autograd::Backward& b) const override;
  uint32_t accumulates() const override { return 1; }

 private:
  Communicator& communicator_;
  std::vector<int64_t> send_rows_;
  std::vector<int64_t> receive_rows_;
  CollectiveLabel label_;
  int64_t first_row_;
};

}  // namespace cadre::parallel
