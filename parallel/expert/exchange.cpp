#include "parallel/expert/exchange.h"

#include <numeric>

namespace cadre::parallel {
namespace {

int64_t sum_of(const std::vector<int64_t>& rows) { return std::accumulate(rows.begin(), rows.end(), int64_t{0}); }

TensorView first_rows(TensorView view, int64_t rows) {
  view.shape = view.shape.with(0, rows);
  return view;
}

}  // namespace

std::vector<autograd::TensorSpec> ExchangeRows::infer(std::span<const autograd::TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2 && in[0].shape[0] >= sum_of(send_rows_), in,
          "x [n, h] with at least the rows that are sent");
  return {{in[0].dtype, in[0].shape.with(0, sum_of(receive_rows_))}};
}

void ExchangeRows::forward(const autograd::Forward& f) const {
  communicator_.all_to_all(first_rows(f.in[0], sum_of(send_rows_)), send_rows_, f.out[0], receive_rows_, label_)
      ->wait();
}

void ExchangeRows::backward_inputs(autograd::Backward& b) const {
  const TensorView dx = first_rows(b.target(0).view, sum_of(send_rows_));
  communicator_.all_to_all(b.gradient(0), receive_rows_, dx, send_rows_, label_)->wait();
}

}  // namespace cadre::parallel
