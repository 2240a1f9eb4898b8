#include "parallel/comm/mpi.h"

#include <fmt/core.h>

#include <exception>
#include <map>
#include <utility>

#include "core/error.h"
#include "parallel/comm/collective.h"
#include "parallel/comm/mpi_messages.h"
#include "parallel/comm/mpi_operations.h"
#include "parallel/comm/operation.h"
#include "parallel/comm/self.h"
#include "parallel/comm/shared_reduce.h"

namespace cadre::parallel {
namespace {

// What a communicator and its Works share.
struct Shared {
  std::shared_ptr<Engine> engine;
  std::chrono::milliseconds deadline;
  int rank = 0;
  std::string failure;  // not empty: no further calls
};

class MpiWork : public Work {
 public:
  MpiWork(std::shared_ptr<Shared> shared, std::shared_ptr<StagedOperation> operation)
      : shared_(std::move(shared)), operation_(std::move(operation)) {}

  ~MpiWork() override {
    if (shared_->engine->complete(*operation_)) return;
    shared_->engine->abandon(*operation_);
    if (shared_->failure.empty()) {
      shared_->failure =
          fmt::format("rank {} dropped {} before it was finished", shared_->rank, describe(operation_->call()));
    }
  }

  bool done() override {
    return guarded([&] { return shared_->engine->done(*operation_); });
  }
  void wait() override {
    guarded([&] {
      shared_->engine->wait(*operation_, shared_->rank, shared_->deadline);
      return true;
    });
  }

 private:
  template <class F>
  bool guarded(F&& body) {
    try {
      return body();
    } catch (const std::exception& error) {
      shared_->engine->abandon(*operation_);
      if (shared_->failure.empty()) shared_->failure = error.what();
      throw;
    }
  }

  std::shared_ptr<Shared> shared_;
  std::shared_ptr<StagedOperation> operation_;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiGroup> group, std::shared_ptr<Engine> engine, const MpiOptions& options)
      : group_(std::move(group)),
        rank_(group_->rank()),
        size_(group_->size()),
        shared_(std::make_shared<Shared>(Shared{std::move(engine), options.deadline, rank_, ""})) {}

  void share_memory(size_t bytes) { arena_ = SharedArena::create(*this, bytes); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) override {
    check_reducible(data, "all_reduce", label);
    Call call = make_call(Operation::kAllReduce, data.dtype, data.shape.elements(), label);
    call.reduction = reduction;
    if (arena_) return start(arena_->all_reduce(call, data.data));
    return start(make_message_all_reduce(group_, call, data.data));
  }

  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_gather(send, receive, size_, "all_gather", label);
    const std::vector<size_t> bytes(static_cast<size_t>(size_), bytes_of(send, "all_gather"));
    const Call call = make_call(Operation::kAllGather, send.dtype, send.shape.elements(), label);
    return start(make_message_exchange(group_, call, send.data, bytes, receive.data, bytes, true));
  }

  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_reducible(send, "reduce_scatter", label);
    check_gather(receive, send, size_, "reduce_scatter", label);
    const Call call = make_call(Operation::kReduceScatter, send.dtype, receive.shape.elements(), label);
    return start(make_message_reduce_scatter(group_, call, send.data, receive.data));
  }

  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    check_all_to_all(send, send_rows, receive, receive_rows, size_, label);
    const size_t row = static_cast<size_t>(row_elements(send)) * size_of(send.dtype);
    const Call call = make_call(Operation::kAllToAll, send.dtype, row_elements(send), label);
    const auto own = static_cast<size_t>(rank_);
    if (send_rows[own] != receive_rows[own]) {
      throw CommunicationError(fmt::format("{}: rank {} sends {} rows to itself, but expects {}", describe(call), rank_,
                                           send_rows[own], receive_rows[own]));
    }
    return start(make_message_exchange(group_, call, send.data, times(send_rows, row), receive.data,
                                       times(receive_rows, row), false));
  }

  WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) override {
    bytes_of(data, "broadcast");
    check_peer(root, size_, "broadcast", label);
    Call call = make_call(Operation::kBroadcast, data.dtype, data.shape.elements(), label);
    call.peer = root;
    return start(make_message_broadcast(group_, call, data.data));
  }

  WorkPtr send(TensorView data, int to, CollectiveLabel label) override {
    return message(Operation::kSend, "send", data, to, sent_[to], label);
  }
  WorkPtr receive(TensorView data, int from, CollectiveLabel label) override {
    return message(Operation::kReceive, "receive", data, from, received_[from], label);
  }

  void barrier(CollectiveLabel label) override {
    const std::vector<size_t> nothing(static_cast<size_t>(size_), 0);
    start(make_message_exchange(group_, make_call(Operation::kBarrier, Dtype::kU8, 0, label), nullptr, nothing, nullptr,
                                nothing, false))
        ->wait();
  }

  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel label) override {
    auto texts = std::make_shared<std::vector<std::string>>(static_cast<size_t>(size_));
    (*texts)[static_cast<size_t>(rank_)] = text;
    start(make_message_gather_text(group_, make_call(Operation::kGatherText, Dtype::kU8, 0, label), texts))->wait();
    return *texts;
  }

  void poll() override { shared_->engine->poll(); }
  [[noreturn]] void abort(int exit_code) override { group_->abort(exit_code); }

 private:
  Call make_call(Operation operation, Dtype dtype, int64_t count, CollectiveLabel label) {
    if (!shared_->failure.empty()) throw CommunicationError(shared_->failure);
    return {.operation = operation, .dtype = dtype, .count = count, .label = label, .sequence = sequence_++};
  }

  WorkPtr start(std::shared_ptr<StagedOperation> operation) {
    shared_->engine->start(operation);
    return std::make_unique<MpiWork>(shared_, std::move(operation));
  }

  WorkPtr message(Operation operation, const char* name, TensorView data, int peer, int64_t& sequence,
                  CollectiveLabel label) {
    bytes_of(data, name);
    check_peer(peer, size_, name, label);
    if (!shared_->failure.empty()) throw CommunicationError(shared_->failure);
    const Call call = {.operation = operation,
                       .dtype = data.dtype,
                       .count = data.shape.elements(),
                       .peer = peer,
                       .label = label,
                       .sequence = sequence++};
    return start(make_message(group_, call, data.data));
  }

  static std::vector<size_t> times(const std::vector<int64_t>& rows, size_t row_bytes) {
    std::vector<size_t> bytes;
    for (const int64_t count : rows) bytes.push_back(static_cast<size_t>(count) * row_bytes);
    return bytes;
  }

  std::shared_ptr<MpiGroup> group_;
  const int rank_;
  const int size_;
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<SharedArena> arena_;
  int64_t sequence_ = 0;
  std::map<int, int64_t> sent_;  // messages so far, by destination
  std::map<int, int64_t> received_;
};

}  // namespace

MpiSession::MpiSession(Launcher launcher)
    : launcher_(launcher), exceptions_(std::uncaught_exceptions()), engine_(std::make_shared<Engine>()) {
  if (launcher_ == Launcher::kMpirun) initialize_mpi();
}

MpiSession::~MpiSession() {
  if (launcher_ != Launcher::kMpirun || std::uncaught_exceptions() > exceptions_) return;
  try {
    finalize_mpi();
  } catch (const CommunicationError&) {
    // Nothing is left that could be told of it; mpirun reports ranks that did not finalize.
  }
}

std::unique_ptr<Communicator> MpiSession::world(const MpiOptions& options) {
  if (launcher_ == Launcher::kNone) return make_self_communicator();
  std::lock_guard lock(engine_->mutex());
  auto group = MpiGroup::duplicate_world();
  if (group->size() == 1) return make_self_communicator();
  const bool shares = group->on_one_node() && options.shared_memory;
  auto communicator = std::make_unique<MpiCommunicator>(std::move(group), engine_, options);
  if (shares) communicator->share_memory(options.shared_bytes);
  return communicator;
}

}  // namespace cadre::parallel
