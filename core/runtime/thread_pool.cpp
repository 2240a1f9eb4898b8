#include "core/runtime/thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace cadre {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Kernels follow each other closely, and waking a sleeper can cost 100 microseconds in a virtual machine.
constexpr std::chrono::microseconds kSpinTime{300};

// Whether the condition came true while spinning.
template <class Condition>
bool spin_until(Condition&& condition) {
  constexpr int kPausesPerLook = 32;
  const auto give_up = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (condition()) return true;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  return false;
}

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};

struct Scratch {
  std::unique_ptr<void, FreeDeleter> memory;
  size_t bytes = 0;
};

}  // namespace

struct ThreadPool::State {
  explicit State(int workers) : size(workers), scratch(static_cast<size_t>(workers)) {}

  int size;
  std::vector<Scratch> scratch;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable finished;
  std::atomic<uint64_t> generation{0};
  std::atomic<int> pending{0};
  std::atomic<bool> stopping{false};
  Body body = nullptr;
  void* context = nullptr;
  std::exception_ptr failure;

  void call(int worker) {
    try {
      body(context, worker);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  void serve(int worker) {
    uint64_t seen = 0;
    while (true) {
      const auto called = [&] { return generation.load(std::memory_order_acquire) != seen; };
      if (!spin_until(called)) {
        std::unique_lock lock(mutex);
        wake.wait(lock, called);
      }
      seen = generation.load(std::memory_order_acquire);
      if (stopping) return;
      call(worker);
      if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }

  void start_round() {
    {
      const std::lock_guard lock(mutex);
      generation.fetch_add(1, std::memory_order_acq_rel);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int size) : state_(std::make_unique<State>(size < 1 ? 1 : size)) {
  for (int worker = 1; worker < state_->size; ++worker) {
    state_->threads.emplace_back([state = state_.get(), worker] { state->serve(worker); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping = true;
  state_->start_round();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::size() const { return state_->size; }

void ThreadPool::run(Body body, void* context) {
  State& state = *state_;
  if (state.size == 1) {
    body(context, 0);
    return;
  }
  state.body = body;
  state.context = context;
  state.failure = nullptr;
  state.pending.store(state.size - 1, std::memory_order_release);
  state.start_round();
  state.call(0);
  const auto finished = [&] { return state.pending.load(std::memory_order_acquire) == 0; };
  if (!spin_until(finished)) {
    std::unique_lock lock(state.mutex);
    state.finished.wait(lock, finished);
  }
  if (state.failure) std::rethrow_exception(state.failure);
}

void* ThreadPool::scratch(int worker, size_t bytes) {
  Scratch& scratch = state_->scratch[static_cast<size_t>(worker)];
  if (scratch.bytes < bytes) {
    const size_t rounded = (bytes * 5 / 4 + 63) / 64 * 64;
    scratch.memory.reset();
    scratch.memory.reset(std::aligned_alloc(64, rounded));
    if (!scratch.memory) throw std::bad_alloc();
    scratch.bytes = rounded;
  }
  return scratch.memory.get();
}

}  // namespace cadre
