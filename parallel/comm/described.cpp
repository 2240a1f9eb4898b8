#include "parallel/comm/described.h"

#include <cstring>
#include <numeric>

#include "core/error.h"
#include "parallel/comm/collective.h"

namespace cadre::parallel {
namespace {

class FinishedWork final : public Work {
 public:
  bool done() override { return true; }
  void wait() override {}
};

bool is_integer(const TensorView& view) { return view.dtype == Dtype::kI64 || view.dtype == Dtype::kI32; }

template <class T>
void multiply(const TensorView& data, int factor) {
  for (int64_t i = 0; i < data.shape.elements(); ++i) data.as<T>()[i] *= static_cast<T>(factor);
}

class Described final : public Communicator {
 public:
  Described(int rank, int size, const std::string& name) : rank_(rank) {
    group_.name = name;
    group_.members.resize(static_cast<size_t>(size));
    std::iota(group_.members.begin(), group_.members.end(), 0);
  }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_.members.size()); }
  const Group& group() const override { return group_; }
  std::unique_ptr<Communicator> split(int, int, const std::string& name) override {
    throw InternalError("a described communicator cannot tell who else would join " + name);
  }

  WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) override {
    check_reducible(data, "all_reduce", label);
    if (reduction == Reduction::kSum && data.dtype == Dtype::kI64) multiply<int64_t>(data, size());
    if (reduction == Reduction::kSum && data.dtype == Dtype::kI32) multiply<int32_t>(data, size());
    return finished();
  }
  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_gather(send, receive, size(), "all_gather", label);
    const size_t bytes = bytes_of(send, "all_gather");
    for (size_t part = 0; is_integer(send) && part < group_.members.size(); ++part) {
      if (bytes > 0) std::memcpy(static_cast<char*>(receive.data) + part * bytes, send.data, bytes);
    }
    return finished();
  }
  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_reducible(send, "reduce_scatter", label);
    check_gather(receive, send, size(), "reduce_scatter", label);
    return finished();
  }
  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    check_all_to_all(send, send_rows, receive, receive_rows, size(), label);
    return finished();
  }
  WorkPtr broadcast(TensorView, int root, CollectiveLabel label) override {
    check_peer(root, size(), "broadcast", label);
    return finished();
  }
  WorkPtr send(TensorView, int to, CollectiveLabel label) override {
    check_peer(to, size(), "send", label);
    return finished();
  }
  WorkPtr receive(TensorView, int from, CollectiveLabel label) override {
    check_peer(from, size(), "receive", label);
    return finished();
  }
  void barrier(CollectiveLabel) override {}
  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel) override {
    return std::vector<std::string>(group_.members.size(), text);
  }
  bool moves_data() const override { return false; }
  [[noreturn]] void abort(int exit_code) override {
    throw Error(static_cast<ExitCode>(exit_code), "aborted with exit code " + std::to_string(exit_code));
  }

 private:
  static WorkPtr finished() { return std::make_unique<FinishedWork>(); }

  int rank_;
  Group group_;
};

}  // namespace

std::unique_ptr<Communicator> make_described_communicator(int rank, int size, const std::string& name) {
  return std::make_unique<Described>(rank, size, name);
}

}  // namespace cadre::parallel
