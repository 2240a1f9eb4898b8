#pragma once
// Streams order work; `wait` on an event is the one overlap primitive.
//
// The host stream is a queue served by one thread of its own. Work that throws stops its stream: the error is rethrown
// by the next synchronize() or Event::wait().

#include <functional>
#include <memory>
#include <string>

namespace cadre {

class Event {
 public:
  Event() = default;
  bool done() const;  // a default event is done
  void wait() const;  // blocks the calling thread; rethrows what the stream's work threw before this event

 private:
  friend class Stream;
  struct State;
  std::shared_ptr<State> state_;
};

class Stream {
 public:
  explicit Stream(std::string name);
  ~Stream();  // finishes what was enqueued
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void enqueue(std::function<void()> work);
  Event record();                 // done when all work enqueued so far is done
  void wait(const Event& event);  // later work of this stream starts after `event`
  void synchronize();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cadre
