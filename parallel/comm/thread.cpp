#include "parallel/comm/thread.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <thread>

#include "core/error.h"
#include "parallel/comm/thread_meeting.h"

namespace cadre::parallel {
namespace {

class ThreadWork : public Work {
 public:
  ThreadWork(MeetingPlace& place, int rank, MeetingPtr meeting)
      : place_(place), rank_(rank), meeting_(std::move(meeting)) {}
  ~ThreadWork() override { place_.drop(rank_, *meeting_); }
  bool done() override {
    if (!asked_for_) asked_for_.emplace();
    return place_.done(rank_, *meeting_, *asked_for_);
  }
  void wait() override { place_.wait(rank_, *meeting_); }

 private:
  MeetingPlace& place_;
  int rank_;
  MeetingPtr meeting_;
  std::optional<WaitClock> asked_for_;  // since done() first said no
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(ThreadHall& hall, const GroupPtr& group, int rank)
      : hall_(hall), place_(hall.place(group)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return place_.size(); }
  const Group& group() const override { return *place_.group(); }

  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    std::vector<SplitWish> wishes;
    for (const std::string& text : gather_text(encode({color, key, name}), {"split"})) {
      wishes.push_back(decode_wish(text));
    }
    const GroupPtr made = form_group(group(), splits_++, wishes, rank_);
    if (!made) return nullptr;
    const auto& members = made->members;
    const auto own = std::find(members.begin(), members.end(), group().world_rank(rank_)) - members.begin();
    return std::make_unique<ThreadCommunicator>(hall_, made, static_cast<int>(own));
  }

  WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) override {
    check_reducible(data, "all_reduce", label);
    Call call = make_call(Operation::kAllReduce, data.dtype, data.shape.elements(), label);
    call.reduction = reduction;
    return join(call, {.send = data});
  }
  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_gather(send, receive, size(), "all_gather", label);
    return join(make_call(Operation::kAllGather, send.dtype, send.shape.elements(), label),
                {.send = send, .receive = receive});
  }
  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    check_reducible(send, "reduce_scatter", label);
    check_gather(receive, send, size(), "reduce_scatter", label);
    return join(make_call(Operation::kReduceScatter, send.dtype, receive.shape.elements(), label),
                {.send = send, .receive = receive});
  }
  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    check_all_to_all(send, send_rows, receive, receive_rows, size(), label);
    return join(make_call(Operation::kAllToAll, send.dtype, row_elements(send), label),
                {.send = send, .receive = receive, .send_rows = send_rows, .receive_rows = receive_rows});
  }
  WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) override {
    bytes_of(data, "broadcast");
    check_peer(root, size(), "broadcast", label);
    Call call = make_call(Operation::kBroadcast, data.dtype, data.shape.elements(), label);
    call.peer = root;
    return join(call, {.send = data});
  }
  WorkPtr send(TensorView data, int to, CollectiveLabel label) override {
    return post(Operation::kSend, data, to, sent_[to], "send", label);
  }
  WorkPtr receive(TensorView data, int from, CollectiveLabel label) override {
    return post(Operation::kReceive, data, from, received_[from], "receive", label);
  }

  void barrier(CollectiveLabel label) override {
    join(make_call(Operation::kBarrier, Dtype::kU8, 0, label), {})->wait();
  }
  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel label) override {
    const MeetingPtr meeting =
        place_.join(rank_, make_call(Operation::kGatherText, Dtype::kU8, 0, label), {.text = text});
    ThreadWork(place_, rank_, meeting).wait();
    std::vector<std::string> texts;
    for (const Party& party : meeting->parties) texts.push_back(party.text);
    return texts;
  }
  [[noreturn]] void abort(int exit_code) override { hall_.abort(group().world_rank(rank_), exit_code); }

 private:
  Call make_call(Operation operation, Dtype dtype, int64_t count, CollectiveLabel label) {
    return {.operation = operation,
            .dtype = dtype,
            .count = count,
            .label = label,
            .sequence = sequence_++,
            .group = place_.group()};
  }
  WorkPtr join(const Call& call, Party party) {
    return std::make_unique<ThreadWork>(place_, rank_, place_.join(rank_, call, std::move(party)));
  }
  WorkPtr post(Operation operation, TensorView data, int peer, int64_t& sequence, const char* name,
               CollectiveLabel label) {
    bytes_of(data, name);
    check_peer(peer, size(), name, label);
    const Call call = {.operation = operation,
                       .dtype = data.dtype,
                       .count = data.shape.elements(),
                       .peer = peer,
                       .label = label,
                       .sequence = sequence++,
                       .group = place_.group()};
    return std::make_unique<ThreadWork>(place_, rank_, place_.post(rank_, call, data));
  }

  ThreadHall& hall_;
  MeetingPlace& place_;
  int rank_;
  int64_t sequence_ = 0;
  int64_t splits_ = 0;
  std::map<int, int64_t> sent_;      // messages so far, by destination
  std::map<int, int64_t> received_;  // by source
};

void run_rank(ThreadHall& hall, const GroupPtr& world, int rank, const std::function<void(Communicator&)>& body) {
  try {
    ThreadCommunicator communicator(hall, world, rank);
    body(communicator);
    hall.leave(rank, nullptr, "");
  } catch (const std::exception& error) {
    hall.leave(rank, std::current_exception(), error.what());
  } catch (...) {
    hall.leave(rank, std::current_exception(), "unknown exception");
  }
}

}  // namespace

ThreadWorld::ThreadWorld(int ranks, ThreadOptions options) : ranks_(ranks), options_(options) {
  if (ranks < 1) throw InternalError(fmt::format("a world of {} ranks; at least 1 is wanted", ranks));
}

void ThreadWorld::run(const std::function<void(Communicator&)>& body) const {
  ThreadHall hall(ranks_, options_);
  auto world = std::make_shared<Group>();
  world->key = 1;
  world->members.resize(static_cast<size_t>(ranks_));
  std::iota(world->members.begin(), world->members.end(), 0);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks_; ++rank) {
    threads.emplace_back([&, rank] { run_rank(hall, world, rank, body); });
  }
  for (std::thread& thread : threads) thread.join();
  hall.rethrow();
}

}  // namespace cadre::parallel
