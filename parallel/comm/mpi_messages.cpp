#include "parallel/comm/mpi_messages.h"

#include <fmt/core.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <set>
#include <string>
#include <thread>

#include "core/error.h"
#include "parallel/comm/wait_clock.h"

namespace cadre::parallel {
namespace {

constexpr size_t kLargest = size_t{1} << 30;  // MPI counts bytes in an int

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommunicationError(fmt::format("{} failed: {}", call, std::string(text, static_cast<size_t>(length))));
}

constexpr std::chrono::milliseconds kLook{500};  // at the clock, while ranks come up

// Nobody else would notice: to the launcher, a rank that dies while it connects is one that is still to come.
class StartDeadline {
 public:
  explicit StartDeadline(std::chrono::milliseconds limit) : thread_([this, limit] { watch(limit); }) {}
  ~StartDeadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  StartDeadline(const StartDeadline&) = delete;
  StartDeadline& operator=(const StartDeadline&) = delete;

 private:
  void watch(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    WaitClock clock;
    do {
      if (changed_.wait_for(lock, std::min(kLook, limit), [this] { return over_; })) return;
    } while (clock.look() < limit);
    std::fprintf(stderr, "cadre: error: not all ranks came up within %.3g s: one has died or hangs while it starts\n",
                 std::chrono::duration<double>(limit).count());
    std::_Exit(static_cast<int>(ExitCode::kCommunication));  // MPI_Abort wants an MPI that is up
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

void initialize_mpi(std::chrono::milliseconds deadline) {
  const StartDeadline watching(deadline);
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_SERIALIZED) {
    throw CommunicationError("this MPI has no MPI_THREAD_SERIALIZED; Open MPI 4.1 or later is wanted");
  }
}

void abort_mpi(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::abort();
}

void finalize_mpi() { check(MPI_Finalize(), "MPI_Finalize"); }

struct MpiGroup::State {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  std::vector<int> world_ranks;

  explicit State(MPI_Comm made);
};

MpiGroup::State::State(MPI_Comm made) : comm(made) {
  check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  std::vector<int> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  world_ranks.resize(ranks.size());
  MPI_Group here = MPI_GROUP_NULL;
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Comm_group(comm, &here);
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Group_translate_ranks(here, size, ranks.data(), world, world_ranks.data());
  MPI_Group_free(&here);
  MPI_Group_free(&world);
}

MpiGroup::MpiGroup(std::unique_ptr<State> state) : state_(std::move(state)) {}

MpiGroup::~MpiGroup() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Comm_free(&state_->comm);
}

std::unique_ptr<MpiGroup> MpiGroup::duplicate_world() {
  MPI_Comm comm = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return std::unique_ptr<MpiGroup>(new MpiGroup(std::make_unique<State>(comm)));
}

std::unique_ptr<MpiGroup> MpiGroup::split(int color, int key) const {
  MPI_Comm comm = MPI_COMM_NULL;
  check(MPI_Comm_split(state_->comm, color < 0 ? MPI_UNDEFINED : color, key, &comm), "MPI_Comm_split");
  if (comm == MPI_COMM_NULL) return nullptr;
  return std::unique_ptr<MpiGroup>(new MpiGroup(std::make_unique<State>(comm)));
}

int MpiGroup::rank() const { return state_->rank; }
int MpiGroup::size() const { return state_->size; }

const std::vector<int>& MpiGroup::world_ranks() const { return state_->world_ranks; }

int MpiGroup::first_rank_of_node() const {
  MPI_Comm node = MPI_COMM_NULL;
  check(MPI_Comm_split_type(state_->comm, MPI_COMM_TYPE_SHARED, state_->rank, MPI_INFO_NULL, &node),
        "MPI_Comm_split_type");
  int first = state_->rank;
  const int code = MPI_Bcast(&first, 1, MPI_INT, 0, node);
  MPI_Comm_free(&node);
  check(code, "MPI_Bcast");
  return first;
}

void MpiGroup::abort(int exit_code) const { abort_mpi(exit_code); }

struct Messages::State {
  struct Message {
    int peer;
    int expected;  // bytes; -1 for a send
  };
  std::shared_ptr<MpiGroup> group;
  std::vector<MPI_Request> requests;
  std::vector<Message> messages;
  std::vector<int> indices;
  std::vector<MPI_Status> statuses;
  size_t open = 0;
};

Messages::Messages(std::shared_ptr<MpiGroup> group) : state_(std::make_unique<State>()) {
  state_->group = std::move(group);
}

Messages::~Messages() = default;

void Messages::send(const void* data, size_t bytes, int to, int tag) {
  const char* cursor = static_cast<const char*>(data);
  do {
    const int part = static_cast<int>(std::min(bytes, kLargest));
    state_->messages.push_back({to, -1});
    check(MPI_Isend(cursor, part, MPI_BYTE, to, tag, state_->group->state_->comm,
                    &state_->requests.emplace_back(MPI_REQUEST_NULL)),
          "MPI_Isend");
    ++state_->open;
    cursor += part;
    bytes -= static_cast<size_t>(part);
  } while (bytes > 0);
}

void Messages::receive(void* data, size_t bytes, int from, int tag) {
  char* cursor = static_cast<char*>(data);
  do {
    const int part = static_cast<int>(std::min(bytes, kLargest));
    state_->messages.push_back({from, part});
    check(MPI_Irecv(cursor, part, MPI_BYTE, from, tag, state_->group->state_->comm,
                    &state_->requests.emplace_back(MPI_REQUEST_NULL)),
          "MPI_Irecv");
    ++state_->open;
    cursor += part;
    bytes -= static_cast<size_t>(part);
  } while (bytes > 0);
}

bool Messages::done() {
  State& state = *state_;
  if (state.open == 0) return true;
  state.indices.resize(state.requests.size());
  state.statuses.resize(state.requests.size());
  int completed = 0;
  const auto world = [&](int rank) { return state.group->world_ranks()[static_cast<size_t>(rank)]; };
  const int code = MPI_Testsome(static_cast<int>(state.requests.size()), state.requests.data(), &completed,
                                state.indices.data(), state.statuses.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) check(code, "MPI_Testsome");
  for (int i = 0; i < completed; ++i) {
    const State::Message& message = state.messages[static_cast<size_t>(state.indices[static_cast<size_t>(i)])];
    const MPI_Status& status = state.statuses[static_cast<size_t>(i)];
    if (code == MPI_ERR_IN_STATUS && status.MPI_ERROR == MPI_ERR_TRUNCATE) {
      throw CommunicationError(
          fmt::format("rank {} sent more than the {} bytes expected of it", world(message.peer), message.expected));
    }
    if (code == MPI_ERR_IN_STATUS) check(status.MPI_ERROR, "a message");
    int bytes = 0;
    if (message.expected >= 0) MPI_Get_count(&status, MPI_BYTE, &bytes);
    if (message.expected >= 0 && bytes != message.expected) {
      throw CommunicationError(
          fmt::format("rank {} sent {} bytes where {} were expected", world(message.peer), bytes, message.expected));
    }
    --state.open;
  }
  return state.open == 0;
}

void Messages::cancel() {
  for (size_t i = 0; i < state_->requests.size(); ++i) {
    if (state_->requests[i] != MPI_REQUEST_NULL && state_->messages[i].expected >= 0) MPI_Cancel(&state_->requests[i]);
  }
}

bool Messages::under_way() const { return state_->open > 0; }

std::vector<int> Messages::missing() const {
  std::set<int> peers;
  for (size_t i = 0; i < state_->requests.size(); ++i) {
    if (state_->requests[i] != MPI_REQUEST_NULL) peers.insert(state_->messages[i].peer);
  }
  return {peers.begin(), peers.end()};
}

}  // namespace cadre::parallel
