#include "parallel/comm/mpi_point_to_point.h"

#include <fmt/core.h>

#include <utility>

#include "core/error.h"

namespace cadre::parallel {
namespace {

class PointToPoint : public StagedOperation {
 public:
  PointToPoint(const std::shared_ptr<MpiGroup>& group, const Call& call, void* data)
      : StagedOperation(call), data_(data), record_(record_of(call)), header_(group), body_(group) {}

  // Both messages are posted at once, so that a large one is not held up. A body that does not fit is waited for, too,
  // since it writes to the buffer until it is complete; what is said of it then is what the header tells.
  bool advance() override {
    if (!std::exchange(posted_, true)) post();
    if (!header_done_ && !header_.done()) return false;
    header_done_ = true;
    const bool expected = !receives() || same_message(record_, record_of_peer_);
    try {
      if (!body_.done()) return false;
    } catch (const CommunicationError&) {
      if (expected) throw;
    }
    if (expected) return true;
    throw CommunicationError(fmt::format("rank {} called {}", record_.peer, describe(record_of_peer_)));
  }
  std::vector<int> missing() const override { return posted_ ? std::vector<int>{call_.peer} : std::vector<int>{}; }
  void cancel() override {
    header_.cancel();
    body_.cancel();
  }
  bool uses_buffers() const override { return body_.under_way(); }

 private:
  bool receives() const { return call_.operation == Operation::kReceive; }

  void post() {
    const size_t bytes = static_cast<size_t>(call_.count) * size_of(call_.dtype);
    if (receives()) {
      header_.receive(&record_of_peer_, sizeof(record_of_peer_), call_.peer, kMessageHeaderTag);
      body_.receive(data_, bytes, call_.peer, kMessageTag);
    } else {
      header_.send(&record_, sizeof(record_), call_.peer, kMessageHeaderTag);
      body_.send(data_, bytes, call_.peer, kMessageTag);
    }
  }

  void* data_;
  CallRecord record_;
  CallRecord record_of_peer_;
  Messages header_;
  Messages body_;
  bool posted_ = false;
  bool header_done_ = false;
};

}  // namespace

std::unique_ptr<StagedOperation> make_message(const std::shared_ptr<MpiGroup>& group, const Call& call, void* data) {
  return std::make_unique<PointToPoint>(group, call, data);
}

}  // namespace cadre::parallel
