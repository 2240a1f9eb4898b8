#include "parallel/expert/transport.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/tensor.h"

namespace cadre::parallel {
namespace {

class AllToAllTransport final : public RowTransport {
 public:
  explicit AllToAllTransport(Communicator& communicator) : communicator_(communicator) {}
  WorkPtr start(Allocator&, TensorView send, TensorView receive, const RowTraffic& traffic,
                CollectiveLabel label) const override {
    const int rank = communicator_.rank();
    return communicator_.all_to_all(send, traffic.sent_by(rank), receive, traffic.received_by(rank), label);
  }

 private:
  Communicator& communicator_;
};

int64_t sum_of(const std::vector<int64_t>& rows) { return std::accumulate(rows.begin(), rows.end(), int64_t{0}); }

// Takes this rank's rows out of everybody's once they are here.
class AllGatherWork final : public Work {
 public:
  AllGatherWork(Communicator& communicator, Allocator& allocator, TensorView send, TensorView receive,
                const RowTraffic& traffic, CollectiveLabel label)
      : traffic_(traffic), rank_(communicator.rank()), moves_data_(communicator.moves_data()), receive_(receive) {
    for (int from = 0; from < traffic.ranks(); ++from) padded_ = std::max(padded_, sum_of(traffic.sent_by(from)));
    const int64_t width = send.cols();
    sent_ = Tensor::empty(allocator, send.dtype, Shape{padded_, width});
    if (send.shape.elements() > 0 && moves_data_) {
      std::memcpy(sent_.raw(), send.data, static_cast<size_t>(send.shape.elements()) * size_of(send.dtype));
    }
    gathered_ = Tensor::empty(allocator, send.dtype, Shape{traffic.ranks() * padded_, width});
    inner_ = communicator.all_gather(sent_, gathered_, label);
  }
  bool done() override {
    if (inner_ && !inner_->done()) return false;
    take();
    return true;
  }
  void wait() override {
    if (inner_) inner_->wait();
    take();
  }

 private:
  void take() {
    if (!inner_) return;
    inner_.reset();
    if (!moves_data_) return;
    int64_t next = 0;
    for (int from = 0; from < traffic_.ranks(); ++from) {
      int64_t first = from * padded_;
      for (int to = 0; to < rank_; ++to) first += traffic_.rows(from, to);
      const Tensor rows = gathered_.slice(first, first + traffic_.rows(from, rank_));
      const size_t row_bytes = static_cast<size_t>(receive_.row_stride) * size_of(receive_.dtype);
      char* to = static_cast<char*>(receive_.data) + static_cast<size_t>(next) * row_bytes;
      if (rows.bytes() > 0) std::memcpy(to, rows.raw(), rows.bytes());
      next += traffic_.rows(from, rank_);
    }
  }

  RowTraffic traffic_;
  int rank_;
  bool moves_data_;
  TensorView receive_;
  int64_t padded_ = 0;
  Tensor sent_, gathered_;
  WorkPtr inner_;  // null once the rows are taken; destroyed before its buffers
};

class AllGatherTransport final : public RowTransport {
 public:
  explicit AllGatherTransport(Communicator& communicator) : communicator_(communicator) {}
  WorkPtr start(Allocator& allocator, TensorView send, TensorView receive, const RowTraffic& traffic,
                CollectiveLabel label) const override {
    return std::make_unique<AllGatherWork>(communicator_, allocator, send, receive, traffic, label);
  }

 private:
  Communicator& communicator_;
};

}  // namespace

std::vector<int64_t> RowTraffic::sent_by(int rank) const {
  std::vector<int64_t> result;
  for (int to = 0; to < ranks_; ++to) result.push_back(rows(rank, to));
  return result;
}

std::vector<int64_t> RowTraffic::received_by(int rank) const {
  std::vector<int64_t> result;
  for (int from = 0; from < ranks_; ++from) result.push_back(rows(from, rank));
  return result;
}

RowTraffic RowTraffic::reversed() const {
  RowTraffic result(ranks_);
  for (int from = 0; from < ranks_; ++from) {
    for (int to = 0; to < ranks_; ++to) result.rows(to, from) = rows(from, to);
  }
  return result;
}

std::unique_ptr<RowTransport> make_all_to_all_transport(Communicator& communicator) {
  return std::make_unique<AllToAllTransport>(communicator);
}

std::unique_ptr<RowTransport> make_all_gather_transport(Communicator& communicator) {
  return std::make_unique<AllGatherTransport>(communicator);
}

}  // namespace cadre::parallel
