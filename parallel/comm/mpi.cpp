#include "parallel/comm/mpi.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <numeric>
#include <random>
#include <thread>
#include <utility>

#include "core/error.h"
#include "parallel/comm/mpi_communicator.h"
#include "parallel/comm/self.h"
#include "parallel/comm/shared_segment.h"
#include "parallel/comm/watchdog.h"

namespace cadre::parallel {
namespace {

constexpr std::chrono::seconds kLastMessages{5};

GroupPtr world_group(const MpiGroup& mpi, const std::string& name, uint64_t key) {
  auto group = std::make_shared<Group>();
  *group = {name, key, mpi.world_ranks()};
  return group;
}

// Unlikely to be another job's, on any node.
uint64_t fresh_number() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

MpiSession::MpiSession(Launcher launcher, const SessionOptions& options)
    : launcher_(launcher),
      ranks_per_node_(options.ranks_per_node),
      exceptions_(std::uncaught_exceptions()),
      engine_(std::make_shared<Engine>()) {
  engine_->set_deadline(options.deadline);
  if (launcher_ != Launcher::kMpirun) return;
  initialize_mpi(options.deadline);
  start_watchdog();
}

MpiSession::~MpiSession() {
  if (launcher_ == Launcher::kMpirun && std::uncaught_exceptions() <= exceptions_) {
    try {
      meet_at_the_end();
      engine_->drain(kLastMessages);
      const BlockingCall call(*engine_, "ends MPI");
      finalize_mpi();
    } catch (const CommunicationError&) {
      // Nothing is left that could be told of it; mpirun reports ranks that did not finalize.
    }
  }
  everyone_.reset();
  if (watchdog_) watchdog_->writer().ended();
  engine_->set_watchdog(nullptr);
}

// MPI_Finalize waits for all ranks, and Open MPI cannot be aborted from within it; so they meet before, with a
// deadline.
void MpiSession::meet_at_the_end() {
  if (!everyone_) return;
  try {
    everyone_->barrier({"end"});
  } catch (const TimeoutError& error) {
    if (!error.first()) std::this_thread::sleep_for(kLastMessages);  // the abort of the one that reports ends this rank
    if (blocked_handler_) blocked_handler_(error.what());
    throw;
  }
  everyone_.reset();
}

void MpiSession::start_watchdog() {
  std::shared_ptr<MpiGroup> mpi = guard(engine_, MpiGroup::duplicate_world());
  const GroupPtr group = world_group(*mpi, "world", ++worlds_);
  if (group->members.size() == 1) return;
  const int node = first_rank_of_node(*mpi, ranks_per_node_);
  everyone_ = make_mpi_communicator(std::move(mpi), group, engine_, {});
  const auto neighbours = everyone_->split(node, 0, "node");
  Board board;
  board.job = std::stoull(everyone_->gather_text(std::to_string(fresh_number()), {"job"})[0]);
  board.ranks = neighbours->group().members;
  board.own = static_cast<size_t>(neighbours->rank());
  const size_t bytes = Board::bytes_for(board.ranks.size());
  std::shared_ptr<SharedSegment> segment = SharedSegment::create(*neighbours, bytes, /*or_file=*/true);
  if (segment) {
    board.memory = {segment, segment->data()};
  } else {
    board.ranks = {board.ranks[board.own]};
    board.own = 0;
    board.memory = Board::private_memory(1);
  }
  several_nodes_ = static_cast<size_t>(neighbours->size()) < group->members.size();
  watchdog_ = std::make_unique<Watchdog>(std::move(board), static_cast<int>(group->members.size()));
  engine_->set_watchdog(watchdog_.get());
}

std::unique_ptr<Communicator> MpiSession::world(const MpiOptions& options) {
  if (launcher_ == Launcher::kNone) return make_self_communicator();
  std::shared_ptr<MpiGroup> mpi;
  {
    const BlockingCall call(*engine_, "makes a communicator of all ranks");
    mpi = guard(engine_, MpiGroup::duplicate_world());
  }
  const GroupPtr group = world_group(*mpi, options.name, ++worlds_);
  return make_mpi_communicator(
      std::move(mpi), group, engine_,
      {options.deadline, options.published, options.shared_memory ? options.shared_bytes : 0, ranks_per_node_});
}

void MpiSession::set_deadline(std::chrono::milliseconds deadline) {
  engine_->set_deadline(deadline);
  if (watchdog_) watchdog_->on_blocked(deadline, blocked_handler_);
}

void MpiSession::on_blocked(std::function<void(const std::string& report)> handler) {
  blocked_handler_ = std::move(handler);
  if (watchdog_) watchdog_->on_blocked(engine_->deadline(), blocked_handler_);
}

bool MpiSession::several_nodes() const { return several_nodes_; }

void MpiSession::publish_progress(const std::filesystem::path& directory) {
  if (watchdog_ && several_nodes_) watchdog_->publish_in(directory);
}

bool MpiSession::dangling() const { return engine_->dangling(); }

void MpiSession::abort(int exit_code) {
  if (launcher_ == Launcher::kMpirun) abort_mpi(exit_code);
}

}  // namespace cadre::parallel
