#include "core/runtime/stream.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace cadre {

struct Event::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr failure;

  void finish(std::exception_ptr error) {
    const std::lock_guard lock(mutex);
    done = true;
    failure = std::move(error);
    changed.notify_all();
  }
};

bool Event::done() const {
  if (!state_) return true;
  const std::lock_guard lock(state_->mutex);
  return state_->done;
}

void Event::wait() const {
  if (!state_) return;
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->done; });
  if (state_->failure) std::rethrow_exception(state_->failure);
}

struct Stream::State {
  std::string name;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> queue;
  bool stopping = false;
  std::exception_ptr failure;  // touched by the serving thread only
  std::thread thread;

  void push(std::function<void()> work) {
    const std::lock_guard lock(mutex);
    queue.push_back(std::move(work));
    changed.notify_one();
  }

  void serve() {
    while (true) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stopping || !queue.empty(); });
        if (queue.empty()) return;
        work = std::move(queue.front());
        queue.pop_front();
      }
      work();
    }
  }

  void guarded(const std::function<void()>& work) {
    if (failure) return;
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  }
};

Stream::Stream(std::string name) : state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  state_->thread = std::thread([state = state_.get()] { state->serve(); });
}

Stream::~Stream() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_one();
  }
  state_->thread.join();
}

void Stream::enqueue(std::function<void()> work) {
  state_->push([state = state_.get(), work = std::move(work)] { state->guarded(work); });
}

Event Stream::record() {
  Event event;
  event.state_ = std::make_shared<Event::State>();
  state_->push([state = state_.get(), done = event.state_] { done->finish(state->failure); });
  return event;
}

void Stream::wait(const Event& event) {
  enqueue([event] { event.wait(); });
}

void Stream::synchronize() { record().wait(); }

}  // namespace cadre
