#include "parallel/comm/thread_meeting.h"

#include <fmt/core.h>

#include <cstring>

#include "core/error.h"
#include "parallel/comm/reduction.h"

namespace cadre::parallel {
namespace {

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
        throw CommunicationError(fmt::format("{}: rank {} sends {} rows to rank {}, which expects {}",
                                             describe(meeting.call), from, rows, to,
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

std::string deserted_text(const Meeting& meeting, int absent) {
  return fmt::format("rank {} ended without joining {}, called by rank {}", absent, describe(meeting.call),
                     meeting.first);
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
  meeting->parties.resize(static_cast<size_t>(ranks_));
  return meeting;
}

MeetingPtr MeetingPlace::join(int rank, const Call& call, Party party) {
  std::lock_guard lock(mutex_);
  throw_if_failed();
  MeetingPtr& slot = meetings_[call.sequence];
  if (!slot) slot = open(rank, call);
  MeetingPtr meeting = slot;
  if (!same_call(meeting->call, call)) fail_as_different(*meeting, rank, call);
  party.arrived = true;
  meeting->parties[static_cast<size_t>(rank)] = std::move(party);
  fail_if_deserted(*meeting, rank);
  if (++meeting->arrived < ranks_) return meeting;
  meetings_.erase(call.sequence);
  try {
    execute(*meeting);
  } catch (const CommunicationError& error) {
    fail(rank, error.what());
  }
  meeting->finished = true;
  arrival_.notify_all();
  return meeting;
}

MeetingPtr MeetingPlace::post(int rank, const Call& call, TensorView data) {
  std::lock_guard lock(mutex_);
  throw_if_failed();
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
  if (meeting->call.count != call.count || meeting->call.dtype != call.dtype) fail_as_different(*meeting, rank, call);
  const TensorView& partner = meeting->parties[static_cast<size_t>(meeting->first)].send;
  const size_t size = static_cast<size_t>(call.count) * size_of(call.dtype);
  copy(sends ? partner.data : data.data, sends ? data.data : partner.data, size);
  meeting->finished = true;
  arrival_.notify_all();
  return meeting;
}

bool MeetingPlace::done(const Meeting& meeting) {
  std::lock_guard lock(mutex_);
  if (!meeting.finished) throw_if_failed();
  return meeting.finished;
}

void MeetingPlace::wait(int rank, const Meeting& meeting) {
  std::unique_lock lock(mutex_);
  const auto settled = [&] { return meeting.finished || !failure_.empty(); };
  if (!arrival_.wait_for(lock, options_.deadline, settled)) {
    fail(rank, fmt::format("rank {}: {} timed out after {:.1f} s: not arrived: rank {}", rank, describe(meeting.call),
                           static_cast<double>(options_.deadline.count()) / 1e3, list_ranks(meeting.missing())));
  }
  if (!meeting.finished) throw_if_failed();
}

void MeetingPlace::drop(int rank, const Meeting& meeting) noexcept {
  std::lock_guard lock(mutex_);
  if (meeting.finished || !failure_.empty()) return;
  record(rank, fmt::format("rank {} dropped {} before it was finished", rank, describe(meeting.call)));
}

void MeetingPlace::leave(int rank, std::exception_ptr error, const std::string& what) {
  std::lock_guard lock(mutex_);
  left_[static_cast<size_t>(rank)] = true;
  if (error) {
    if (failure_.empty()) record(rank, fmt::format("rank {} failed: {}", rank, what));
    if (!error_ || rank == culprit_) error_ = error;
    return;
  }
  const auto desert = [&](const Meeting& meeting) {
    const bool awaited = !meeting.parties[static_cast<size_t>(rank)].arrived;
    if (failure_.empty() && awaited) record(rank, deserted_text(meeting, rank));
  };
  for (const auto& [sequence, meeting] : meetings_) desert(*meeting);
  for (const auto& [pair, channel] : channels_) {
    for (const auto& meeting : channel.sends) desert(*meeting);
    for (const auto& meeting : channel.receives) desert(*meeting);
  }
}

void MeetingPlace::rethrow() const {
  if (error_) std::rethrow_exception(error_);
  throw_if_failed();
}

void MeetingPlace::abort(int rank, int exit_code) {
  std::lock_guard lock(mutex_);
  const std::string text = fmt::format("rank {} aborted the job with exit code {}", rank, exit_code);
  if (failure_.empty()) record(rank, text);
  throw Error(static_cast<ExitCode>(exit_code), text);
}

void MeetingPlace::record(int rank, const std::string& text) {
  failure_ = text;
  culprit_ = rank;
  arrival_.notify_all();
}

void MeetingPlace::fail(int rank, const std::string& text) {
  if (failure_.empty()) record(rank, text);
  throw CommunicationError(failure_);
}

void MeetingPlace::fail_as_different(const Meeting& meeting, int rank, const Call& call) {
  fail(rank, fmt::format("ranks disagree: rank {} called {}, rank {} called {}", meeting.first, describe(meeting.call),
                         rank, describe(call)));
}

void MeetingPlace::throw_if_failed() const {
  if (!failure_.empty()) throw CommunicationError(failure_);
}

void MeetingPlace::fail_if_deserted(const Meeting& meeting, int rank) {
  for (const int absent : meeting.missing()) {
    if (left_[static_cast<size_t>(absent)]) fail(rank, deserted_text(meeting, absent));
  }
}

}  // namespace cadre::parallel
