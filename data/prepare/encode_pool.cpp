#include "data/prepare/encode_pool.h"

namespace cadre::data {

struct EncodePool::Job {
  Piece piece;
  EncodedPiece result;
  std::exception_ptr error;
  bool done = false;
};

EncodePool::EncodePool(std::vector<Encode> workers) {
  threads_.reserve(workers.size());
  for (Encode& worker : workers) {
    threads_.emplace_back([this, encode = std::move(worker)] { serve(encode); });
  }
}

EncodePool::~EncodePool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    waiting_.clear();
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void EncodePool::serve(const Encode& encode) {
  while (true) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      job = std::move(waiting_.front());
      waiting_.pop_front();
    }
    try {
      job->result = encode(job->piece);
    } catch (...) {
      job->error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      job->done = true;
    }
    done_.notify_one();
  }
}

void EncodePool::submit(Piece piece) {
  auto job = std::make_shared<Job>();
  job->piece = std::move(piece);
  in_order_.push_back(job);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  work_.notify_one();
}

std::pair<Piece, EncodedPiece> EncodePool::take() {
  const std::shared_ptr<Job> job = std::move(in_order_.front());
  in_order_.pop_front();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return job->done; });
  if (job->error) std::rethrow_exception(job->error);
  return {std::move(job->piece), std::move(job->result)};
}

}  // namespace cadre::data
