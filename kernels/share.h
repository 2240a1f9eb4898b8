#pragma once
// One worker's share of a list of pieces of unequal cost, for kernels that walk over it in one threaded run.

#include <algorithm>
#include <cstdint>

#include "core/runtime/thread_pool.h"

namespace cadre::kernels {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Walks blocks of equal pieces in order and hands each worker its share of the total cost: a piece belongs to the
// worker in whose share it begins. The cuts depend on the costs alone.
class Share {
 public:
  Share(int64_t total, int worker, int workers)
      : begin_(total * worker / workers), end_(total * (worker + 1) / workers), total_(total), workers_(workers) {}

  // The part of the next `pieces` pieces, `cost` each (more than 0), that is this worker's.
  Range take(int64_t pieces, int64_t cost) {
    const auto first_at = [&](int64_t bound) {
      return std::clamp<int64_t>(bound <= position_ ? 0 : ceil_div(bound - position_, cost), 0, pieces);
    };
    const Range range{first_at(begin_), first_at(end_)};
    position_ += pieces * cost;
    return range;
  }
  bool done() const { return position_ >= end_; }
  // How many workers so much of the total occupies.
  double workers_of(int64_t cost) const {
    return static_cast<double>(workers_) * (static_cast<double>(cost) / static_cast<double>(total_));
  }

 private:
  int64_t begin_;
  int64_t end_;
  int64_t total_;
  int workers_;
  int64_t position_ = 0;
};

}  // namespace cadre::kernels
