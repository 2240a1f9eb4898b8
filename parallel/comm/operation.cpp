#include "parallel/comm/operation.h"

#include <fmt/core.h>

#include <algorithm>
#include <thread>

#include "core/error.h"

namespace cadre::parallel {
namespace {

constexpr int kSpins = 200;
constexpr int kYields = 2000;
constexpr std::chrono::microseconds kNap{50};

void back_off(int round) {
  if (round < kSpins) return;
  if (round < kSpins + kYields) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(kNap);
  }
}

}  // namespace

void Engine::start(std::shared_ptr<StagedOperation> operation) {
  std::lock_guard lock(mutex_);
  pending_.push_back(std::move(operation));
  pending_count_.store(static_cast<int>(pending_.size()), std::memory_order_relaxed);
  advance_all();
}

void Engine::advance_all() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  const auto finish = [](const std::shared_ptr<StagedOperation>& operation) {
    try {
      if (!operation->advance()) return false;
    } catch (const CommunicationError& error) {
      operation->error_ =
          std::make_exception_ptr(CommunicationError(describe(operation->call()) + ": " + error.what()));
    } catch (...) {
      operation->error_ = std::current_exception();
    }
    operation->complete_.store(true, std::memory_order_release);
    return true;
  };
  pending_.erase(std::remove_if(pending_.begin(), pending_.end(), finish), pending_.end());
  pending_count_.store(static_cast<int>(pending_.size()), std::memory_order_relaxed);
}

bool Engine::done(const StagedOperation& operation) {
  if (!complete(operation)) poll();
  if (!complete(operation)) return false;
  if (operation.error_) std::rethrow_exception(operation.error_);
  return true;
}

void Engine::abandon(const StagedOperation& operation) {
  std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(pending_.begin(), pending_.end(), [&](const auto& p) { return p.get() == &operation; });
  if (found == pending_.end()) return;
  abandoned_.push_back(std::move(*found));
  pending_.erase(found);
  pending_count_.store(static_cast<int>(pending_.size()), std::memory_order_relaxed);
}

void Engine::wait(const StagedOperation& operation, int rank, std::chrono::milliseconds deadline) {
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; !done(operation); ++round) {
    back_off(round);
    if (round < kSpins || std::chrono::steady_clock::now() - start < deadline) continue;
    std::lock_guard lock(mutex_);
    throw CommunicationError(fmt::format("rank {}: {} timed out after {:.1f} s: not arrived: rank {}", rank,
                                         describe(operation.call()), static_cast<double>(deadline.count()) / 1e3,
                                         list_ranks(operation.missing())));
  }
}

}  // namespace cadre::parallel
