#include "launch/verify/faulty_communicator.h"

#include <cstring>

namespace cadre::launch {
namespace {

using parallel::CollectiveLabel;
using parallel::Communicator;
using parallel::Reduction;
using parallel::Work;
using parallel::WorkPtr;

class NoWork final : public Work {
 public:
  bool done() override { return true; }
  void wait() override {}
};

// Doubles what arrived.
class DoubledWork final : public Work {
 public:
  DoubledWork(WorkPtr inner, TensorView data) : inner_(std::move(inner)), data_(data) {}
  bool done() override { return inner_->done(); }
  void wait() override {
    inner_->wait();
    for (int64_t i = 0; i < data_.shape.elements(); ++i) {
      if (data_.dtype == Dtype::kF64) {
        data_.as<double>()[i] *= 2;
      } else {
        data_.as<float>()[i] *= 2;
      }
    }
  }

 private:
  WorkPtr inner_;
  TensorView data_;
};

class Disturbed final : public Communicator {
 public:
  Disturbed(std::unique_ptr<Communicator> inner, Disturbance disturbance, std::string label, int64_t bucket)
      : inner_(std::move(inner)), disturbance_(disturbance), label_(std::move(label)), bucket_(bucket) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const parallel::Group& group() const override { return inner_->group(); }
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return inner_->split(color, key, name);
  }
  WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) override {
    if (!chosen(label)) return inner_->all_reduce(data, reduction, label);
    if (disturbance_ == Disturbance::kSkip) return std::make_unique<NoWork>();
    return std::make_unique<DoubledWork>(inner_->all_reduce(data, reduction, label), data);
  }
  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    return inner_->all_gather(send, receive, label);
  }
  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    return inner_->reduce_scatter(send, receive, label);
  }
  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    if (!chosen(label)) return inner_->all_to_all(send, send_rows, receive, receive_rows, label);
    if (disturbance_ == Disturbance::kSkip) {
      std::memset(receive.data, 0, static_cast<size_t>(receive.shape.elements()) * size_of(receive.dtype));
      return std::make_unique<NoWork>();
    }
    return std::make_unique<DoubledWork>(inner_->all_to_all(send, send_rows, receive, receive_rows, label), receive);
  }
  WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) override {
    return inner_->broadcast(data, root, label);
  }
  WorkPtr send(TensorView data, int to, CollectiveLabel label) override { return inner_->send(data, to, label); }
  WorkPtr receive(TensorView data, int from, CollectiveLabel label) override {
    return inner_->receive(data, from, label);
  }
  void barrier(CollectiveLabel label) override { inner_->barrier(label); }
  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel label) override {
    return inner_->gather_text(text, label);
  }
  void poll() override { inner_->poll(); }
  [[noreturn]] void abort(int exit_code) override {
    inner_->abort(exit_code);
    __builtin_unreachable();
  }

 private:
  bool chosen(CollectiveLabel label) { return label_ == label.name && (bucket_ < 0 || bucket_ == next_++); }

  std::unique_ptr<Communicator> inner_;
  Disturbance disturbance_;
  std::string label_;
  int64_t bucket_;
  int64_t next_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> disturb_reductions(std::unique_ptr<Communicator> inner, Disturbance disturbance,
                                                 std::string label, int64_t bucket) {
  return std::make_unique<Disturbed>(std::move(inner), disturbance, std::move(label), bucket);
}

}  // namespace cadre::launch
