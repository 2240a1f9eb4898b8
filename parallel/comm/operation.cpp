#include "parallel/comm/operation.h"

#include <fmt/core.h>

#include <algorithm>
#include <thread>

#include "core/error.h"
#include "parallel/comm/watchdog.h"

namespace cadre::parallel {
namespace {

constexpr int kSpins = 200;
constexpr int kYields = 2000;
constexpr std::chrono::microseconds kNap{50};
constexpr std::chrono::milliseconds kRelease{500};

void back_off(int round) {
  if (round < kSpins) return;
  if (round < kSpins + kYields) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(kNap);
  }
}

}  // namespace

void CommunicatorFailure::record(const std::string& text) {
  std::lock_guard lock(mutex_);
  if (happened_.load()) return;
  text_ = text;
  happened_.store(true, std::memory_order_release);
}

void CommunicatorFailure::throw_if_happened() const {
  if (!happened()) return;
  std::lock_guard lock(mutex_);
  throw CommunicationError(text_);
}

void Engine::start(std::shared_ptr<StagedOperation> operation, bool published) {
  std::lock_guard lock(mutex_);
  operation->published_ = published && watchdog_ != nullptr;
  if (operation->published_) watchdog_->writer().entered(operation->call());
  pending_.push_back(std::move(operation));
  pending_count_.store(static_cast<int>(pending_.size()), std::memory_order_relaxed);
  advance_all();
}

void Engine::advance_all() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  const auto finish = [this](const std::shared_ptr<StagedOperation>& operation) {
    try {
      if (!operation->advance()) return false;
    } catch (const CommunicationError& error) {
      operation->error_ =
          std::make_exception_ptr(CommunicationError(describe(operation->call()) + ": " + error.what()));
    } catch (...) {
      operation->error_ = std::current_exception();
    }
    if (operation->error_) {
      operation->cancel();
      abandoned_.push_back(operation);  // other messages of it may still be under way
    } else if (operation->published_) {
      watchdog_->writer().finished(operation->call());
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
  (*found)->cancel();
  abandoned_.push_back(std::move(*found));
  pending_.erase(found);
  pending_count_.store(static_cast<int>(pending_.size()), std::memory_order_relaxed);
}

void Engine::release(const StagedOperation& operation) {
  bool uses_buffers = false;
  {
    std::lock_guard lock(mutex_);
    uses_buffers = !complete(operation) && operation.uses_buffers();
    if (uses_buffers && !release_until_) release_until_ = std::chrono::steady_clock::now() + kRelease;
  }
  for (int round = 0; uses_buffers && !complete(operation); ++round) {
    if (std::chrono::steady_clock::now() >= *release_until_) break;
    poll();
    back_off(round);
  }
  abandon(operation);
}

bool Engine::dangling() {
  std::lock_guard lock(mutex_);
  return std::any_of(abandoned_.begin(), abandoned_.end(),
                     [](const auto& operation) { return operation->uses_buffers(); });
}

void Engine::wait(const StagedOperation& operation, const Patience& patience) {
  WaitClock clock;
  bool shown = false;
  const auto show = [&](bool waits) {
    std::lock_guard lock(mutex_);
    if (watchdog_ == nullptr || !patience.published || shown == waits) return;
    shown = waits;
    if (waits) {
      watchdog_->writer().waiting(operation.call());
    } else {
      watchdog_->writer().outside();
    }
  };
  try {
    for (int round = 0; !done(operation); ++round) {
      back_off(round);
      if (round < kSpins) continue;
      show(true);
      check_deadline(operation, patience, clock);
    }
  } catch (const TimeoutError&) {
    throw;  // for the reports of others it still waits
  } catch (...) {
    show(false);
    throw;
  }
  show(false);
}

std::chrono::milliseconds Engine::deadline_of(const Patience& patience) const {
  return patience.deadline.count() > 0 ? patience.deadline : deadline();
}

void Engine::check_deadline(const StagedOperation& operation, const Patience& patience, WaitClock& clock) {
  const WaitClock::Duration waited = clock.look();
  if (patience.failure != nullptr) patience.failure->throw_if_happened();
  if (waited < deadline_of(patience)) return;
  std::lock_guard lock(mutex_);
  if (complete(operation)) return;
  std::vector<RankView> views;
  if (watchdog_ != nullptr) views = watchdog_->views();
  const std::string text = timeout_message(operation.call(), patience.rank, waited.count(), operation.missing(), views);
  throw TimeoutError(text, !patience.published || watchdog_ == nullptr || watchdog_->claim_report());
}

void Engine::drain(std::chrono::milliseconds longest) {
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; pending_count_.load() > 0 && std::chrono::steady_clock::now() - start < longest; ++round) {
    poll();
    back_off(round);
  }
}

}  // namespace cadre::parallel
