#include "launch/session.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/error.h"
#include "launch/crash.h"

namespace cadre::launch {
namespace {

// How much later than the first the last rank may throw the error that all of them agreed on.
constexpr std::chrono::milliseconds kFailureDeadline{1500};
// What the rank that reports a hang has for it, before the others, who say nothing, end the job.
constexpr std::chrono::seconds kReportTime{5};
constexpr int64_t kTimeoutSeconds = 600;

int64_t environment_number(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && *end == 0 && value > 0 ? value : otherwise;
}

// The config has a setting for it, but ranks wait for each other before it is read.
std::chrono::seconds default_timeout() {
  return std::chrono::seconds(environment_number("CADRE_TIMEOUT_SECONDS", kTimeoutSeconds));
}

std::vector<Place> gather_places(parallel::Communicator& world, const Place& own) {
  std::vector<Place> places;
  for (const std::string& text : world.gather_text(encode(own), {"places"})) places.push_back(decode_place(text));
  return places;
}

kernels::Isa choose_isa(IsaChoice choice) {
  kernels::Isa isa = kernels::best_isa();
  switch (choice) {
    case IsaChoice::kAuto: return isa;
    case IsaChoice::kPortable: isa = kernels::Isa::kPortable; break;
    case IsaChoice::kAvx2: isa = kernels::Isa::kAvx2; break;
    case IsaChoice::kAvx512: isa = kernels::Isa::kAvx512; break;
  }
  if (!kernels::isa_available(isa)) {
    throw ConfigError("device.isa: this machine cannot run " + std::string(kernels::name_of(isa)) + "; its widest is " +
                      std::string(kernels::name_of(kernels::best_isa())));
  }
  return isa;
}

}  // namespace

parallel::Launcher detect_launcher() {
  const bool under_mpi = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
  return under_mpi ? parallel::Launcher::kMpirun : parallel::Launcher::kNone;
}

Session::Session()
    : mpi_(detect_launcher(), {.deadline = default_timeout()}),
      world_(mpi_.world()),
      failures_(
          mpi_.world({.name = "failures", .deadline = kFailureDeadline, .published = false, .shared_memory = false})),
      logger_(std::make_unique<Logger>(world_->rank(), world_->size())),
      allocator_(make_host_allocator()),
      places_(gather_places(*world_, own_place())) {
  install_crash_handler(world_->size() > 1 ? world_->rank() : -1);
  // On another thread, while this one is inside MPI for good.
  mpi_.on_blocked([&mpi = mpi_, own = rank()](const std::string& report) {
    print_failure(report, own);
    mpi.abort(static_cast<int>(ExitCode::kCommunication));
  });
}

Session::Session(const DeviceSettings& device, Dtype dtype) : Session() { start(device, dtype); }

void Session::start(const DeviceSettings& device, Dtype dtype) {
  const int64_t fair = environment_number("CADRE_THREADS", fair_threads(places_, rank()));
  const int threads = static_cast<int>(device.threads.value_or(fair));
  threads_ = std::make_unique<ThreadPool>(threads);
  const kernels::Exec exec{*threads_, choose_isa(device.isa)};
  context_ = std::make_unique<autograd::Context>(autograd::Context{exec, *allocator_, dtype});
  context_->poll = [world = world_.get()] { world->poll(); };
}

void Session::tell_places() {
  Place& own = places_[static_cast<size_t>(rank())];
  own.threads = threads();
  places_ = gather_places(*world_, own);
  if (rank() != 0) return;
  for (const std::string& line : describe(places_)) logger_->info(line);
  if (const std::string crowded = oversubscription(places_); !crowded.empty()) logger_->warning(crowded);
}

int Session::ranks_of_host() const {
  const std::string& host = places_[static_cast<size_t>(rank())].host;
  return static_cast<int>(
      std::count_if(places_.begin(), places_.end(), [&](const Place& place) { return place.host == host; }));
}

bool Session::first_of_host() const {
  const std::string& host = places_[static_cast<size_t>(rank())].host;
  const auto first =
      std::find_if(places_.begin(), places_.end(), [&](const Place& place) { return place.host == host; });
  return first - places_.begin() == rank();
}

// Why a run ended belongs in its log; a mistyped config or command is no event of a run.
void Session::tell(const Failure& failure, bool alone) {
  if (failure.code == ExitCode::kUsage) {
    print_failure(failure.message, alone ? rank() : -1);
  } else {
    logger_->error(failure.message);
  }
}

// Empty when not every rank has failed within the deadline: then the others wait for this one, or still compute. Nobody
// is asked when what was thrown has taken buffers of messages with it.
std::vector<std::string> Session::failures_of_all(const Failure& failure) {
  if (mpi_.dangling()) return {};
  try {
    return failures_->gather_text(fmt::format("{} {}", static_cast<int>(failure.code), failure.message), {"failures"});
  } catch (const CommunicationError&) {
    return {};
  }
}

void Session::fail(const Failure& failure) {
  const std::vector<std::string> all = failures_of_all(failure);
  if (all.empty()) {
    if (failure.reported_elsewhere) std::this_thread::sleep_for(kReportTime);  // the abort ends this rank, too
    tell(failure, true);
    failures_->abort(static_cast<int>(failure.code));
  }
  const auto mine = all.begin() + rank();
  const bool agreed = std::all_of(all.begin(), all.end(), [&](const std::string& text) { return text == *mine; });
  if (std::find(all.begin(), mine, *mine) == mine) tell(failure, !agreed);
  // mpirun kills the other ranks as soon as one has ended, so nobody ends before all have printed.
  failures_of_all(failure);
  if (agreed) throw ReportedError(failure.code, failure.message);
  // A collective that failed is a consequence where another rank knows of a cause.
  ExitCode code = ExitCode::kCommunication;
  for (const std::string& text : all) {
    const auto other = static_cast<ExitCode>(std::stoi(text));
    if (code == ExitCode::kCommunication) code = other;
  }
  failures_->abort(static_cast<int>(code));
  throw ReportedError(code, failure.message);
}

}  // namespace cadre::launch
