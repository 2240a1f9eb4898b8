#include "parallel/comm/self.h"

#include <cstring>

#include "core/error.h"
#include "parallel/comm/collective.h"

namespace cadre::parallel {
namespace {

class FinishedWork : public Work {
 public:
  bool done() override { return true; }
  void wait() override {}
};

class SelfCommunicator : public Communicator {
 public:
  explicit SelfCommunicator(SelfOptions options) : options_(std::move(options)) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const Group& group() const override { return *options_.group; }

  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    const GroupPtr group = form_group(*options_.group, splits_++, {{color, key, name}}, 0);
    if (!group) return nullptr;
    return std::make_unique<SelfCommunicator>(SelfOptions{group, options_.poll, options_.abort});
  }

  WorkPtr all_reduce(TensorView data, Reduction, CollectiveLabel label) override {
    check_reducible(data, "all_reduce", label);
    return std::make_unique<FinishedWork>();
  }
  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_gather(send, receive, 1, "all_gather", label);
    return copy(send, receive, bytes_of(send, "all_gather"));
  }
  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_reducible(send, "reduce_scatter", label);
    check_gather(receive, send, 1, "reduce_scatter", label);
    return copy(send, receive, bytes_of(send, "reduce_scatter"));
  }
  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    check_all_to_all(send, send_rows, receive, receive_rows, 1, label);
    if (send_rows[0] != receive_rows[0]) {
      throw CommunicationError("all_to_all: rank 0 sends " + std::to_string(send_rows[0]) +
                               " rows to itself, expects " + std::to_string(receive_rows[0]));
    }
    return copy(send, receive, static_cast<size_t>(send_rows[0] * row_elements(send)) * size_of(send.dtype));
  }
  WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) override {
    bytes_of(data, "broadcast");
    check_peer(root, 1, "broadcast", label);
    return std::make_unique<FinishedWork>();
  }
  WorkPtr send(TensorView, int to, CollectiveLabel) override {
    throw InternalError("send to rank " + std::to_string(to) + ": there is only one rank");
  }
  WorkPtr receive(TensorView, int from, CollectiveLabel) override {
    throw InternalError("receive from rank " + std::to_string(from) + ": there is only one rank");
  }
  void barrier(CollectiveLabel) override {}
  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel) override { return {text}; }
  void poll() override {
    if (options_.poll) options_.poll();
  }
  [[noreturn]] void abort(int exit_code) override {
    if (options_.abort) options_.abort(exit_code);
    throw Error(static_cast<ExitCode>(exit_code), "aborted with exit code " + std::to_string(exit_code));
  }

 private:
  static WorkPtr copy(const TensorView& from, const TensorView& to, size_t bytes) {
    if (bytes > 0 && from.data != to.data) std::memmove(to.data, from.data, bytes);
    return std::make_unique<FinishedWork>();
  }

  SelfOptions options_;
  int64_t splits_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return make_self_communicator({std::make_shared<Group>(), {}, {}});
}

std::unique_ptr<Communicator> make_self_communicator(SelfOptions options) {
  return std::make_unique<SelfCommunicator>(std::move(options));
}

}  // namespace cadre::parallel
