#pragma once
// Data parallelism: sums gradients over the ranks that hold the same parameters, bucket by bucket, while backward still
// runs, and with ZeRO (Rajbhandari et al., 2020) takes updated values from their owners to the other holders.
//
// Every segment has holders among the communicator's ranks, and every holder owns a part of it (ownership.h). A
// bucket's contributions go to the owners by one all-to-all, each owner sums in a fixed tree over the holders in rank
// order, and without ZeRO the sums go back the same way. Where all ranks hold all of a bucket, and none of it is
// sharded, an all_reduce gives the same bits at less cost. The gradients are sums: nothing is divided by a rank count.
//
// A bucket starts once all its parameters are ready and all earlier buckets have started, so that every rank starts
// them in the same order even where readiness comes in another.

#include <cstdint>
#include <vector>

#include "autograd/parameter.h"
#include "core/memory/allocator.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/owner_exchange.h"

namespace cadre::parallel {

// A parameter that some rank of the communicator holds a part of.
struct ReducedParameter {
  autograd::Parameter* parameter = nullptr;  // null: no part of it is here
  std::vector<HeldSegment> segments;         // over all ranks
  bool experts = false;
  int chunk = 0;  // pipeline stage of the rank: its parameters get their gradients apart from other chunks'
};

struct ReducerOptions {
  // Small enough to start early and to stay in the caches, large enough that its start costs nothing.
  int64_t bucket_bytes = int64_t{4} << 20;
  // ZeRO stage. 0: every holder gets the sums. 1: owners alone; publish() takes their values to the holders. 2:
  // besides, gradients live in buckets only, which are summed and released micro-batch by micro-batch.
  int zero = 0;
  // The tree over holders is one over blocks of so many (reduction.h).
  size_t block = 1;
  // The ranks follow other schedules: zero = 2 keeps gradients until the step's last micro-batch.
  bool across_stages = false;
};

struct ReducerReport {
  int buckets = 0;
  int64_t bytes = 0;              // of local gradients that were reduced, padding included
  int started_before_finish = 0;  // buckets
  double exposed_seconds = 0;     // waiting, while nothing else ran
  double start_seconds = 0;       // in starting buckets during backward
};

class Reducer {
 public:
  // Parameters in the order in which backward usually finishes them, the same on every rank of the communicator.
  Reducer(Communicator& communicator, Allocator& allocator, ReducedStorage storage,
          std::vector<ReducedParameter> parameters, ReducerOptions options = {});
  ~Reducer();
  Reducer(const Reducer&) = delete;
  Reducer& operator=(const Reducer&) = delete;

  // Before the first backward of a step.
  void start_step();
  // `parameter` (index into the list) has its gradient of a micro-batch, `last`: of the step's last one. Throws
  // InternalError when told so twice in a step.
  void ready(int64_t parameter, bool last);
  // Starts what is left (parameters never ready count as they are, or zero), and waits for all.
  ReducerReport finish();
  // With ZeRO, after the update: owners' values to all holders. Returns the seconds that it took.
  double publish();

  int bucket_count() const { return static_cast<int>(buckets_.size()); }

 private:
  // Parameters [first, end), reduced together.
  struct Bucket {
    size_t first = 0, end = 0;
    size_t unready = 0;              // of those that are here
    bool all_reduced = false;        // else exchanged
    std::vector<ElementRange> runs;  // all_reduced: of the flat gradients
    std::vector<WorkPtr> works;      // of the runs
    ExchangePlan plan;
    Tensor lent;           // zero = 2: the gradients that arrive now
    int64_t elements = 0;  // of it
    bool reduced = false;  // in this step
  };
  // Buckets of a chunk, started one after the other.
  struct Chain {
    size_t first = 0, end = 0, next = 0;
  };

  void build_buckets();
  void plan_bucket(Bucket& bucket);
  bool all_ranks_hold(const Bucket& bucket) const;
  void start_ready_buckets(Chain& chain, bool all);
  void start(Bucket& bucket);
  void expect_all(Bucket& bucket);
  bool by_micro_batch() const { return options_.zero == 2 && !options_.across_stages; }
  Tensor lend(size_t parameter);

  Communicator& communicator_;
  Allocator& allocator_;
  ReducedStorage storage_;
  std::vector<ReducedParameter> parameters_;
  ReducerOptions options_;
  OwnerExchange exchange_;
  std::vector<Bucket> buckets_;
  std::vector<Chain> chains_;
  std::vector<size_t> bucket_of_, chain_of_;  // by parameter
  std::vector<int64_t> place_;                // by parameter: elements into the bucket's lent gradients
  std::vector<bool> ready_;
  int started_ = 0;  // buckets
  double start_seconds_ = 0;
};

}  // namespace cadre::parallel
