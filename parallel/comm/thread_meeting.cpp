#include "parallel/comm/thread_meeting.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "parallel/comm/reduction.h"

namespace cadre::parallel {
namespace {

constexpr std::chrono::milliseconds kLook{500};  // at the clock, of a rank that waits

char* bytes(const TensorView& view) { return static_cast<char*>(view.data); }

void copy(void* to, const void* from, size_t count) {
  if (count > 0 && to != from) std::memmove(to, from, count);
}

void all_reduce(Meeting& meeting) {
  std::vector<const void*> sources;
  for (const Party& party : meeting.parties) sources.push_back(party.send.data);
  void* result = meeting.parties[0].send.data;
  reduce_in_order(meeting.call.dtype, meeting.call.reduction, sources, meeting.call.count, result);
  const size_t size = static_cast<size_t>(meeting.call.count) * size_of(meeting.call.dtype);
  for (const Party& party : meeting.parties) copy(party.send.data, result, size);
}

void all_gather(Meeting& meeting) {
  const size_t size = static_cast<size_t>(meeting.call.count) * size_of(meeting.call.dtype);
  for (const Party& to : meeting.parties) {
    for (size_t from = 0; from < meeting.parties.size(); ++from) {
      copy(bytes(to.receive) + from * size, meeting.parties[from].send.data, size);
    }
  }
}

void reduce_scatter(Meeting& meeting) {
  const size_t size = static_cast<size_t>(meeting.call.count) * size_of(meeting.call.dtype);
  for (size_t rank = 0; rank < meeting.parties.size(); ++rank) {
    std::vector<const void*> sources;
    for (const Party& party : meeting.parties) sources.push_back(bytes(party.send) + rank * size);
    reduce_in_order(meeting.call.dtype, Reduction::kSum, sources, meeting.call.count,
                    meeting.parties[rank].receive.data);
  }
}

// Throws CommunicationError when a rank expects another number of rows than it is sent.
void all_to_all(Meeting& meeting) {
  const size_t row = static_cast<size_t>(meeting.call.count) * size_of(meeting.call.dtype);
  std::vector<size_t> sent(meeting.parties.size(), 0);
  for (size_t to = 0; to < meeting.parties.size(); ++to) {
    size_t received = 0;
    for (size_t from = 0; from < meeting.parties.size(); ++from) {
      const int64_t rows = meeting.parties[from].send_rows[to];
      if (rows != meeting.parties[to].receive_rows[from]) {
        const std::vector<int>& world = meeting.call.group->members;
        throw CommunicationError(fmt::format("{}: rank {} sends {} rows to rank {}, which expects {}",
                                             describe(meeting.call), world[from], rows, world[to],
                                             meeting.parties[to].receive_rows[from]));
      }
      const size_t size = static_cast<size_t>(rows) * row;
      copy(bytes(meeting.parties[to].receive) + received, bytes(meeting.parties[from].send) + sent[from], size);
      received += size;
      sent[from] += size;
    }
  }
}

void broadcast(Meeting& meeting) {
  const TensorView& root = meeting.parties[static_cast<size_t>(meeting.call.peer)].send;
  const size_t size = static_cast<size_t>(meeting.call.count) * size_of(meeting.call.dtype);
  for (const Party& party : meeting.parties) copy(party.send.data, root.data, size);
}

void execute(Meeting& meeting) {
  switch (meeting.call.operation) {
    case Operation::kAllReduce: return all_reduce(meeting);
    case Operation::kAllGather: return all_gather(meeting);
    case Operation::kReduceScatter: return reduce_scatter(meeting);
    case Operation::kAllToAll: return all_to_all(meeting);
    case Operation::kBroadcast: return broadcast(meeting);
    case Operation::kSend:
    case Operation::kReceive:
    case Operation::kBarrier:
    case Operation::kGatherText: return;
  }
}

}  // namespace

std::vector<int> Meeting::missing() const {
  std::vector<int> ranks;
  for (size_t rank = 0; rank < parties.size(); ++rank) {
    if (!parties[rank].arrived) ranks.push_back(static_cast<int>(rank));
  }
  return ranks;
}

MeetingPtr MeetingPlace::open(int rank, const Call& call) const {
  auto meeting = std::make_shared<Meeting>();
  meeting->call = call;
  meeting->first = rank;
  meeting->parties.resize(group_->members.size());
  return meeting;
}

void MeetingPlace::finish(Meeting& meeting) {
  meeting.finished = true;
  for (const int member : group_->members) hall_.writers_[static_cast<size_t>(member)].finished(meeting.call);
  hall_.arrival_.notify_all();
}

MeetingPtr MeetingPlace::join(int rank, const Call& call, Party party) {
  std::lock_guard lock(hall_.mutex_);
  hall_.throw_if_failed();
  hall_.writers_[static_cast<size_t>(world(rank))].entered(call);
  MeetingPtr& slot = meetings_[call.sequence];
  if (!slot) slot = open(rank, call);
  MeetingPtr meeting = slot;
  if (!same_call(record_of(meeting->call), record_of(call))) fail_as_different(*meeting, rank, call);
  party.arrived = true;
  meeting->parties[static_cast<size_t>(rank)] = std::move(party);
  fail_if_deserted(*meeting, rank);
  if (++meeting->arrived < size()) return meeting;
  meetings_.erase(call.sequence);
  try {
    execute(*meeting);
  } catch (const CommunicationError& error) {
    hall_.fail(world(rank), error.what());
  }
  finish(*meeting);
  return meeting;
}

MeetingPtr MeetingPlace::post(int rank, const Call& call, TensorView data) {
  std::lock_guard lock(hall_.mutex_);
  hall_.throw_if_failed();
  hall_.writers_[static_cast<size_t>(world(rank))].entered(call);
  const bool sends = call.operation == Operation::kSend;
  Channel& channel = channels_[sends ? std::pair(rank, call.peer) : std::pair(call.peer, rank)];
  auto& partners = sends ? channel.receives : channel.sends;
  if (partners.empty()) {
    MeetingPtr meeting = open(rank, call);
    for (Party& party : meeting->parties) party.arrived = true;
    meeting->parties[static_cast<size_t>(call.peer)].arrived = false;
    meeting->parties[static_cast<size_t>(rank)].send = data;
    fail_if_deserted(*meeting, rank);
    (sends ? channel.sends : channel.receives).push_back(meeting);
    return meeting;
  }
  MeetingPtr meeting = partners.front();
  partners.pop_front();
  if (!same_message(record_of(meeting->call), record_of(call))) fail_as_different(*meeting, rank, call);
  const TensorView& partner = meeting->parties[static_cast<size_t>(meeting->first)].send;
  const size_t size = static_cast<size_t>(call.count) * size_of(call.dtype);
  copy(sends ? partner.data : data.data, sends ? data.data : partner.data, size);
  hall_.writers_[static_cast<size_t>(world(rank))].finished(call);
  finish(*meeting);
  return meeting;
}

bool MeetingPlace::done(int rank, const Meeting& meeting, WaitClock& clock) {
  std::lock_guard lock(hall_.mutex_);
  if (meeting.finished) return true;
  hall_.throw_if_failed();
  const WaitClock::Duration waited = clock.look();
  if (waited >= hall_.options_.deadline) time_out(rank, meeting, waited);
  return false;
}

void MeetingPlace::wait(int rank, const Meeting& meeting) {
  WaitClock clock;
  std::unique_lock lock(hall_.mutex_);
  if (meeting.finished) return;
  hall_.throw_if_failed();
  ProgressWriter& writer = hall_.writers_[static_cast<size_t>(world(rank))];
  writer.waiting(meeting.call);
  const auto settled = [&] { return meeting.finished || !hall_.failure_.empty(); };
  while (!hall_.arrival_.wait_for(lock, std::min(kLook, hall_.options_.deadline), settled)) {
    const WaitClock::Duration waited = clock.look();
    if (waited >= hall_.options_.deadline) time_out(rank, meeting, waited);
  }
  writer.outside();
  if (!meeting.finished) hall_.throw_if_failed();
}

void MeetingPlace::time_out(int rank, const Meeting& meeting, WaitClock::Duration waited) {
  const std::string text = timeout_message(meeting.call, world(rank), waited.count(), meeting.missing(), hall_.views());
  hall_.record(world(rank), text);
  throw TimeoutError(text, !std::exchange(hall_.reported_, true));
}

void MeetingPlace::drop(int rank, const Meeting& meeting) noexcept {
  std::lock_guard lock(hall_.mutex_);
  if (meeting.finished || !hall_.failure_.empty()) return;
  hall_.record(world(rank),
               fmt::format("rank {} dropped {} before it was finished", world(rank), describe(meeting.call)));
}

std::string MeetingPlace::deserted_text(const Meeting& meeting, int absent) const {
  return fmt::format("rank {} ended without joining {}, called by rank {}", world(absent), describe(meeting.call),
                     world(meeting.first));
}

void MeetingPlace::desert(int world_rank) {
  const auto& members = group_->members;
  const auto found = std::find(members.begin(), members.end(), world_rank);
  if (found == members.end()) return;
  const int rank = static_cast<int>(found - members.begin());
  const auto check = [&](const Meeting& meeting) {
    const bool awaited = !meeting.parties[static_cast<size_t>(rank)].arrived;
    if (hall_.failure_.empty() && awaited) hall_.record(world_rank, deserted_text(meeting, rank));
  };
  for (const auto& [sequence, meeting] : meetings_) check(*meeting);
  for (const auto& [pair, channel] : channels_) {
    for (const auto& meeting : channel.sends) check(*meeting);
    for (const auto& meeting : channel.receives) check(*meeting);
  }
}

void MeetingPlace::fail_as_different(const Meeting& meeting, int rank, const Call& call) {
  hall_.fail(world(rank), disagreement(world(meeting.first), record_of(meeting.call), world(rank), record_of(call)));
}

void MeetingPlace::fail_if_deserted(const Meeting& meeting, int rank) {
  for (const int absent : meeting.missing()) {
    if (hall_.left_[static_cast<size_t>(world(absent))]) hall_.fail(world(rank), deserted_text(meeting, absent));
  }
}

ThreadHall::ThreadHall(int ranks, ThreadOptions options)
    : options_(options), left_(static_cast<size_t>(ranks)), pages_(static_cast<size_t>(ranks)) {
  for (int rank = 0; rank < ranks; ++rank) writers_.emplace_back(pages_[static_cast<size_t>(rank)], rank);
}

MeetingPlace& ThreadHall::place(const GroupPtr& group) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<MeetingPlace>& place = places_[group->key];
  if (!place) place = std::make_unique<MeetingPlace>(*this, group);
  return *place;
}

std::vector<RankView> ThreadHall::views() const {
  const int64_t now = monotonic_nanoseconds();
  std::vector<RankView> views;
  for (const ProgressPage& page : pages_) {
    RankView view{page.read(), 0, 0};
    view.seconds = static_cast<double>(now - view.progress.since) * 1e-9;
    views.push_back(view);
  }
  return views;
}

void ThreadHall::leave(int rank, std::exception_ptr error, const std::string& what) {
  std::lock_guard lock(mutex_);
  left_[static_cast<size_t>(rank)] = true;
  writers_[static_cast<size_t>(rank)].ended();
  if (error) {
    if (failure_.empty()) record(rank, fmt::format("rank {} failed: {}", rank, what));
    if (!error_ || rank == culprit_) error_ = error;
    return;
  }
  for (const auto& [key, place] : places_) place->desert(rank);
}

void ThreadHall::rethrow() const {
  if (error_) std::rethrow_exception(error_);
  throw_if_failed();
}

void ThreadHall::abort(int rank, int exit_code) {
  std::lock_guard lock(mutex_);
  const std::string text = fmt::format("rank {} aborted the job with exit code {}", rank, exit_code);
  if (failure_.empty()) record(rank, text);
  throw Error(static_cast<ExitCode>(exit_code), text);
}

void ThreadHall::record(int rank, const std::string& text) {
  if (!failure_.empty()) return;
  failure_ = text;
  culprit_ = rank;
  arrival_.notify_all();
}

void ThreadHall::fail(int rank, const std::string& text) {
  record(rank, text);
  throw CommunicationError(failure_);
}

void ThreadHall::throw_if_failed() const {
  if (!failure_.empty()) throw CommunicationError(failure_);
}

}  // namespace cadre::parallel
