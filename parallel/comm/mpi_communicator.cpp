#include "parallel/comm/mpi_communicator.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "core/error.h"
#include "parallel/comm/mpi_operations.h"
#include "parallel/comm/mpi_point_to_point.h"
#include "parallel/comm/self.h"
#include "parallel/comm/shared_reduce.h"
#include "parallel/comm/watchdog.h"

namespace cadre::parallel {
namespace {

// How much longer a rank that fails listens for what others called.
constexpr std::chrono::milliseconds kListenAfterError{500};
// A group's part of its parent's shared memory, which is also shared out by the number of ranks.
constexpr size_t kSharedPart = 4;
constexpr size_t kLeastSharedPerRank = size_t{256} << 10;

// What a communicator and its Works share.
struct Shared {
  std::shared_ptr<Engine> engine;
  GroupPtr group;
  MpiTraits traits;
  int rank = 0;  // of the world
  CommunicatorFailure failure;

  Patience patience() const { return {rank, traits.deadline, traits.published, &failure}; }
};
using SharedPtr = std::shared_ptr<Shared>;
using OperationPtr = std::shared_ptr<StagedOperation>;

class MpiWork : public Work {
 public:
  // `check` may be null.
  MpiWork(SharedPtr shared, OperationPtr operation, OperationPtr check)
      : shared_(std::move(shared)), operation_(std::move(operation)), check_(std::move(check)) {}

  ~MpiWork() override {
    if (given_up_ || shared_->engine->complete(*operation_)) return;
    shared_->engine->release(*operation_);
    shared_->failure.record(
        fmt::format("rank {} dropped {} before it was finished", shared_->rank, describe(operation_->call())));
  }

  bool done() override {
    return guarded([&] {
      if (shared_->engine->done(*operation_)) return true;
      if (!asked_for_) asked_for_.emplace();
      shared_->engine->check_deadline(*operation_, shared_->patience(), *asked_for_);
      return false;
    });
  }
  void wait() override {
    guarded([&] {
      shared_->engine->wait(*operation_, shared_->patience());
      return true;
    });
  }

 private:
  template <class F>
  bool guarded(F&& body) {
    try {
      return body();
    } catch (const std::exception& error) {
      listen();
      shared_->engine->abandon(*operation_);
      given_up_ = true;
      shared_->failure.record(error.what());
      if (dynamic_cast<const TimeoutError*>(&error) == nullptr) shared_->failure.throw_if_happened();
      throw;
    }
  }

  // Another call of the neighbour explains an error better than its consequences.
  void listen() {
    const auto start = std::chrono::steady_clock::now();
    while (check_ && !shared_->engine->complete(*check_) && !shared_->failure.happened() &&
           std::chrono::steady_clock::now() - start < kListenAfterError) {
      shared_->engine->poll();
      std::this_thread::yield();
    }
  }

  SharedPtr shared_;
  OperationPtr operation_;
  OperationPtr check_;
  bool given_up_ = false;
  std::optional<WaitClock> asked_for_;  // since done() first said no
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiGroup> mpi, SharedPtr shared)
      : mpi_(std::move(mpi)), rank_(mpi_->rank()), size_(mpi_->size()), shared_(std::move(shared)) {}
  ~MpiCommunicator() override {
    Engine& engine = *shared_->engine;
    std::lock_guard lock(engine.mutex());
    if (engine.watchdog() != nullptr) engine.watchdog()->writer().forget(shared_->group->key);
    arena_.reset();
    mpi_.reset();
  }

  // Collective.
  void share_memory() { arena_ = SharedArena::create(*this, shared_->traits.shared_bytes); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const Group& group() const override { return *shared_->group; }

  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    std::vector<SplitWish> wishes;
    for (const std::string& text : gather_text(encode({color, key, name}), {"split"})) {
      wishes.push_back(decode_wish(text));
    }
    const GroupPtr group = form_group(*shared_->group, splits_++, wishes, rank_);
    std::shared_ptr<MpiGroup> mpi;
    {
      const BlockingCall call(*shared_->engine, "splits " + shared_->group->name);
      mpi = guard(shared_->engine, mpi_->split(color, key));
    }
    if (!group) return nullptr;
    MpiTraits traits = shared_->traits;
    if (traits.shared_bytes > 0) {
      const size_t members = group->members.size();
      traits.shared_bytes = std::max(traits.shared_bytes / kSharedPart * members / static_cast<size_t>(size_),
                                     kLeastSharedPerRank * members);
    }
    return make_mpi_communicator(std::move(mpi), group, shared_->engine, traits);
  }

  WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) override {
    check_reducible(data, "all_reduce", label);
    Call call = make_call(Operation::kAllReduce, data.dtype, data.shape.elements(), label);
    call.reduction = reduction;
    if (arena_) return start(arena_->all_reduce(call, data.data));
    return start(make_message_all_reduce(mpi_, call, data.data));
  }

  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_gather(send, receive, size_, "all_gather", label);
    const std::vector<size_t> bytes(static_cast<size_t>(size_), bytes_of(send, "all_gather"));
    const Call call = make_call(Operation::kAllGather, send.dtype, send.shape.elements(), label);
    return start(make_message_exchange(mpi_, call, send.data, bytes, receive.data, bytes, true));
  }

  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_reducible(send, "reduce_scatter", label);
    check_gather(receive, send, size_, "reduce_scatter", label);
    const Call call = make_call(Operation::kReduceScatter, send.dtype, receive.shape.elements(), label);
    return start(make_message_reduce_scatter(mpi_, call, send.data, receive.data));
  }

  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    check_all_to_all(send, send_rows, receive, receive_rows, size_, label);
    const size_t row = static_cast<size_t>(row_elements(send)) * size_of(send.dtype);
    const Call call = make_call(Operation::kAllToAll, send.dtype, row_elements(send), label);
    const auto own = static_cast<size_t>(rank_);
    if (send_rows[own] != receive_rows[own]) {
      throw CommunicationError(fmt::format("{}: rank {} sends {} rows to itself, but expects {}", describe(call),
                                           shared_->rank, send_rows[own], receive_rows[own]));
    }
    return start(make_message_exchange(mpi_, call, send.data, times(send_rows, row), receive.data,
                                       times(receive_rows, row), false));
  }

  WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) override {
    bytes_of(data, "broadcast");
    check_peer(root, size_, "broadcast", label);
    Call call = make_call(Operation::kBroadcast, data.dtype, data.shape.elements(), label);
    call.peer = root;
    return start(make_message_broadcast(mpi_, call, data.data));
  }

  WorkPtr send(TensorView data, int to, CollectiveLabel label) override {
    return message(Operation::kSend, "send", data, to, sent_[to], label);
  }
  WorkPtr receive(TensorView data, int from, CollectiveLabel label) override {
    return message(Operation::kReceive, "receive", data, from, received_[from], label);
  }

  void barrier(CollectiveLabel label) override {
    const std::vector<size_t> nothing(static_cast<size_t>(size_), 0);
    start(make_message_exchange(mpi_, make_call(Operation::kBarrier, Dtype::kU8, 0, label), nullptr, nothing, nullptr,
                                nothing, false))
        ->wait();
  }

  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel label) override {
    auto texts = std::make_shared<std::vector<std::string>>(static_cast<size_t>(size_));
    (*texts)[static_cast<size_t>(rank_)] = text;
    start(make_message_gather_text(mpi_, make_call(Operation::kGatherText, Dtype::kU8, 0, label), texts))->wait();
    return *texts;
  }

  void poll() override { shared_->engine->poll(); }
  [[noreturn]] void abort(int exit_code) override { mpi_->abort(exit_code); }

 private:
  Call make_call(Operation operation, Dtype dtype, int64_t count, CollectiveLabel label) {
    shared_->failure.throw_if_happened();
    return {.operation = operation,
            .dtype = dtype,
            .count = count,
            .label = label,
            .sequence = sequence_++,
            .group = shared_->group};
  }

  WorkPtr start(OperationPtr operation) {
    OperationPtr check = make_message_call_check(
        mpi_, operation->call(), [shared = shared_](const std::string& text) { shared->failure.record(text); });
    shared_->engine->start(check, false);
    return run(std::move(operation), std::move(check));
  }
  WorkPtr run(OperationPtr operation, OperationPtr check) {
    shared_->engine->start(operation, shared_->traits.published);
    return std::make_unique<MpiWork>(shared_, std::move(operation), std::move(check));
  }

  WorkPtr message(Operation operation, const char* name, TensorView data, int peer, int64_t& sequence,
                  CollectiveLabel label) {
    bytes_of(data, name);
    check_peer(peer, size_, name, label);
    shared_->failure.throw_if_happened();
    const Call call = {.operation = operation,
                       .dtype = data.dtype,
                       .count = data.shape.elements(),
                       .peer = peer,
                       .label = label,
                       .sequence = sequence++,
                       .group = shared_->group};
    return run(make_message(mpi_, call, data.data), nullptr);
  }

  static std::vector<size_t> times(const std::vector<int64_t>& rows, size_t row_bytes) {
    std::vector<size_t> bytes;
    for (const int64_t count : rows) bytes.push_back(static_cast<size_t>(count) * row_bytes);
    return bytes;
  }

  std::shared_ptr<MpiGroup> mpi_;
  const int rank_;
  const int size_;
  SharedPtr shared_;
  std::shared_ptr<SharedArena> arena_;
  int64_t sequence_ = 0;
  int64_t splits_ = 0;
  std::map<int, int64_t> sent_;  // messages so far, by destination
  std::map<int, int64_t> received_;
};

}  // namespace

BlockingCall::BlockingCall(Engine& engine, const std::string& where) : engine_(engine), lock_(engine.mutex()) {
  if (engine_.watchdog() != nullptr) engine_.watchdog()->writer().blocked(where);
}

BlockingCall::~BlockingCall() {
  if (engine_.watchdog() != nullptr) engine_.watchdog()->writer().outside();
}

// Weakly, since the engine keeps abandoned operations, and they their groups.
std::shared_ptr<MpiGroup> guard(const std::shared_ptr<Engine>& engine, std::unique_ptr<MpiGroup> made) {
  if (!made) return nullptr;
  return {made.release(), [weak = std::weak_ptr<Engine>(engine)](MpiGroup* group) {
            const std::shared_ptr<Engine> alive = weak.lock();
            std::unique_lock<std::recursive_mutex> lock;
            if (alive) lock = std::unique_lock(alive->mutex());
            delete group;
          }};
}

int first_rank_of_node(const MpiGroup& mpi, int ranks_per_node) {
  if (ranks_per_node == 0) return mpi.first_rank_of_node();
  const std::vector<int>& world = mpi.world_ranks();
  const int node = world[static_cast<size_t>(mpi.rank())] / ranks_per_node;
  const auto first = std::find_if(world.begin(), world.end(), [&](int rank) { return rank / ranks_per_node == node; });
  return static_cast<int>(first - world.begin());
}

std::unique_ptr<Communicator> make_mpi_communicator(std::shared_ptr<MpiGroup> mpi, GroupPtr group,
                                                    std::shared_ptr<Engine> engine, const MpiTraits& traits) {
  if (mpi->size() == 1) {
    return make_self_communicator(
        {std::move(group), [engine] { engine->poll(); }, [mpi](int code) { mpi->abort(code); }});
  }
  auto shared = std::make_shared<Shared>();
  shared->engine = std::move(engine);
  shared->rank = group->world_rank(mpi->rank());
  shared->group = std::move(group);
  shared->traits = traits;
  int first = 0;
  if (traits.shared_bytes > 0) {
    const BlockingCall call(*shared->engine, "finds the nodes of " + shared->group->name);
    first = first_rank_of_node(*mpi, traits.ranks_per_node);
  }
  auto communicator = std::make_unique<MpiCommunicator>(std::move(mpi), shared);
  if (traits.shared_bytes == 0) return communicator;
  const auto nodes = communicator->gather_text(std::to_string(first), {"nodes"});
  const bool one_node = std::all_of(nodes.begin(), nodes.end(), [](const std::string& node) { return node == "0"; });
  if (one_node) communicator->share_memory();
  return communicator;
}

}  // namespace cadre::parallel
