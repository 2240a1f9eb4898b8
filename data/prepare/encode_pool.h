#pragma once
// Threads that encode pieces; results come back in the order in which pieces went in.

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "data/prepare/encoder.h"

namespace cadre::data {

class EncodePool {
 public:
  using Encode = std::function<EncodedPiece(const Piece&)>;
  // A thread for each function.
  explicit EncodePool(std::vector<Encode> workers);
  ~EncodePool();  // drops what waits
  EncodePool(const EncodePool&) = delete;
  EncodePool& operator=(const EncodePool&) = delete;

  void submit(Piece piece);
  size_t in_flight() const { return in_order_.size(); }
  // The oldest piece and its result; waits for it, and rethrows what its encoding threw. in_flight() > 0.
  std::pair<Piece, EncodedPiece> take();

 private:
  struct Job;
  void serve(const Encode& encode);

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::deque<std::shared_ptr<Job>> in_order_;  // only the caller's thread
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace cadre::data
