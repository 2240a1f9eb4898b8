#pragma once
// Batches loaded ahead by a background thread, and which samples a rank's micro-batches hold.

#include <cstdint>
#include <functional>
#include <memory>

#include "data/batch.h"
#include "data/sampler.h"

namespace cadre::data {

struct SampleRange {
  int64_t first = 0;
  int64_t count = 0;
};

// A global batch is global_batch_size consecutive samples, cut into micro-batches of micro_batch_size; each rank takes
// as many consecutive micro-batches.
struct BatchPlan {
  int64_t global_batch_size = 1;
  int64_t micro_batch_size = 1;
  int data_rank = 0;  // of data-parallel ranks
  int data_ranks = 1;

  // Throws ConfigError when micro_batch_size * data_ranks does not divide global_batch_size.
  void check() const;
  int64_t micro_batches() const { return global_batch_size / (micro_batch_size * data_ranks); }  // of a rank and step
  SampleRange range(int64_t step, int64_t micro_batch) const;  // micro_batch in [0, micro_batches())
};

// Gives batch(0), batch(1), ... in order; load(k) makes one, on the background thread. With depth 0 there is no thread.
class Prefetcher {
 public:
  using Load = std::function<Batch(int64_t)>;
  // Begins with batch `first`; keeps at most `depth` batches ready.
  Prefetcher(Load load, int64_t first, int depth);
  ~Prefetcher();  // waits for the batch being loaded
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Waits for the next batch; rethrows what loading it threw (and again when called again).
  Batch next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A rank's micro-batches from step `first_step` on: next() gives (first_step, 0), (first_step, 1), ...
class Loader {
 public:
  Loader(std::shared_ptr<const Sampler> sampler, const BatchPlan& plan, int64_t first_step, int prefetch);
  Batch next() { return prefetcher_.next(); }

 private:
  Prefetcher prefetcher_;
};

}  // namespace cadre::data
