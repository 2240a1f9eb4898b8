#include "parallel/expert/exchange.h"

#include <numeric>

namespace cadre::parallel {
namespace {

int64_t sum_of(const std::vector<int64_t>& rows) { return std::accumulate(rows.begin(), rows.end(), int64_t{0}); }

TensorView rows_of(TensorView view, int64_t first, int64_t rows) {
  view.data = static_cast<char*>(view.data) + static_cast<size_t>(first * view.row_stride) * size_of(view.dtype);
  view.shape = view.shape.with(0, rows);
  return view;
}

}  // namespace

std::vector<autograd::TensorSpec> ExchangeRows::infer(std::span<const autograd::TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2 && in[0].shape[0] >= first_row_ + sum_of(send_rows_), in,
          "x [n, h] with at least the rows that are sent");
  return {{in[0].dtype, in[0].shape.with(0, sum_of(receive_rows_))}};
}

void ExchangeRows::forward(const autograd::Forward& f) const {
  const TensorView sent = rows_of(f.in[0], first_row_, sum_of(send_rows_));
  communicator_.all_to_all(sent, send_rows_, f.out[0], receive_rows_, label_)->wait();
}

// The rows that other exchanges send are theirs to fill, so whether this one comes first makes no difference.
void ExchangeRows::backward_inputs(autograd::Backward& b) const {
  const TensorView dx = rows_of(b.target(0).view, first_row_, sum_of(send_rows_));
  communicator_.all_to_all(b.gradient(0), receive_rows_, dx, send_rows_, label_)->wait();
}

}  // namespace cadre::parallel
