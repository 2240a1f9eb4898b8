#include "data/loader.h"

#include <fmt/core.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "core/error.h"

namespace cadre::data {

void BatchPlan::check() const {
  const int64_t unit = micro_batch_size * data_ranks;
  if (global_batch_size > 0 && micro_batch_size > 0 && data_ranks > 0 && global_batch_size % unit == 0) return;
  const int64_t nearest = unit > 0 ? std::max<int64_t>(1, (global_batch_size + unit / 2) / unit) * unit : 1;
  throw ConfigError(
      fmt::format("batch.global_batch_size: got {}; wanted a multiple of micro_batch_size {} x {} data-parallel "
                  "ranks, e.g. {}",
                  global_batch_size, micro_batch_size, data_ranks, nearest));
}

SampleRange BatchPlan::range(int64_t step, int64_t micro_batch) const {
  const int64_t index = data_rank * micro_batches() + micro_batch;
  return {step * global_batch_size + index * micro_batch_size, micro_batch_size};
}

struct Prefetcher::State {
  Load load;
  int64_t next;  // to load
  size_t depth;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Batch> ready;
  std::exception_ptr error;  // of the batch after those that are ready
  bool stop = false;
  std::thread thread;

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stop || ready.size() < depth; });
      if (stop) return;
      lock.unlock();
      Batch batch;
      std::exception_ptr failure;
      try {
        batch = load(next);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      error = failure;
      if (!failure) ready.push_back(std::move(batch));
      ++next;
      changed.notify_all();
      if (failure) return;
    }
  }
};

Prefetcher::Prefetcher(Load load, int64_t first, int depth) : state_(std::make_unique<State>()) {
  state_->load = std::move(load);
  state_->next = first;
  state_->depth = static_cast<size_t>(depth);
  if (depth > 0) state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Prefetcher::~Prefetcher() {
  if (!state_->thread.joinable()) return;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

Batch Prefetcher::next() {
  if (state_->depth == 0) {
    Batch batch = state_->load(state_->next);
    ++state_->next;
    return batch;
  }
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return !state_->ready.empty() || state_->error; });
  if (state_->ready.empty()) std::rethrow_exception(state_->error);
  Batch batch = std::move(state_->ready.front());
  state_->ready.pop_front();
  state_->changed.notify_all();
  return batch;
}

Loader::Loader(std::shared_ptr<const Sampler> sampler, const BatchPlan& plan, int64_t first_step, int prefetch)
    : prefetcher_(
          [sampler = std::move(sampler), plan](int64_t k) {
            const SampleRange range = plan.range(k / plan.micro_batches(), k % plan.micro_batches());
            return sampler->load(range.first, range.count);
          },
          (plan.check(), first_step * plan.micro_batches()), prefetch) {}

}  // namespace cadre::data
