#include "launch/session.h"

#include <cstdlib>
#include <thread>

#include "core/error.h"

namespace cadre::launch {
namespace {

int64_t environment_number(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && *end == 0 && value > 0 ? value : otherwise;
}

// CADRE_THREADS is set by launch/run; a bare mpirun shares the cores of a node among its local ranks.
int default_threads() {
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t local_ranks = environment_number("OMPI_COMM_WORLD_LOCAL_SIZE", 1);
  return static_cast<int>(environment_number("CADRE_THREADS", std::max<int64_t>(1, cores / local_ranks)));
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

Session::Session(const DeviceSettings& device, Dtype dtype)
    : mpi_(detect_launcher()),
      world_(mpi_.world()),
      logger_(std::make_unique<Logger>(world_->rank(), world_->size())),
      allocator_(make_host_allocator()) {
  const int threads = static_cast<int>(device.threads.value_or(default_threads()));
  threads_ = std::make_unique<ThreadPool>(threads);
  const kernels::Exec exec{*threads_, choose_isa(device.isa)};
  context_ = std::make_unique<autograd::Context>(autograd::Context{exec, *allocator_, dtype});
  context_->poll = [world = world_.get()] { world->poll(); };
}

}  // namespace cadre::launch
