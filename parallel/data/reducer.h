#pragma once
// Data parallelism: sums gradients over ranks, bucket by bucket, while backward still runs.
//
// Gradients live in one flat buffer; parameters are element ranges of it, listed in the order in which backward usually
// finishes them. Neighbours in that order that are also neighbours in the buffer share a bucket. A bucket is reduced
// once all its parameters are ready and all earlier buckets have been started, so that every rank starts them in the
// same order even where readiness comes in another. The gradients are sums: nothing is divided by the rank count.

#include <cstdint>
#include <vector>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// Elements [offset, offset + count) of the flat gradient.
struct GradientRange {
  int64_t offset = 0;
  int64_t count = 0;
};

struct ReducerOptions {
  // Small enough to start early and to stay in the caches, large enough that its start costs nothing.
  int64_t bucket_bytes = int64_t{4} << 20;
  // Elements of padding between neighbours that may be reduced along, unused: alignment to 64 bytes leaves up to 15.
  int64_t largest_gap = 15;
};

struct ReducerReport {
  int buckets = 0;
  int64_t bytes = 0;              // reduced, padding included
  int started_before_finish = 0;  // buckets
  double exposed_seconds = 0;     // in finish(), while nothing else ran
  double start_seconds = 0;       // in starting buckets from mark_ready
};

class Reducer {
 public:
  // `gradient` is flat, contiguous, f32 or f64; it and the communicator must outlive the reducer. Throws InternalError
  // for ranges that overlap or lie outside it.
  Reducer(Communicator& communicator, TensorView gradient, const std::vector<GradientRange>& parameters,
          ReducerOptions options = {});

  // Before backward of the micro-batch that completes the gradients.
  void start_step();
  // `parameter` (index into the list) has its final local gradient. Throws InternalError when told twice in a step.
  void mark_ready(int64_t parameter);
  void poll();
  // Starts what is left (parameters never marked count as ready: their gradients are what they are), and waits for all.
  ReducerReport finish();

  int bucket_count() const { return static_cast<int>(buckets_.size()); }

 private:
  struct Bucket {
    int64_t begin = 0;
    int64_t end = 0;
    int64_t parameters = 0;
    int64_t unready = 0;
    WorkPtr work;
  };

  void build_buckets(const std::vector<GradientRange>& parameters, const ReducerOptions& options);
  void start_ready_buckets(bool all);

  Communicator& communicator_;
  TensorView gradient_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;  // by parameter
  std::vector<bool> ready_;
  size_t started_ = 0;  // buckets
  double start_seconds_ = 0;
};

}  // namespace cadre::parallel
