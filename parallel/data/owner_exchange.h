#pragma once
// Contributions to the owners, sums or values back to the holders: the exchanges of one communicator that are under
// way.

#include <cstddef>
#include <cstdint>
#include <deque>

#include "core/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/exchange_plan.h"

namespace cadre::parallel {

// Flat, contiguous, f32 or f64. They outlive who uses them.
struct ReducedStorage {
  TensorView values;
  TensorView gradients;  // laid out as the values; with zero = 2 absent
  TensorView shard;      // zero = 2: summed gradients of what is owned here
};

// At most kInFlight exchanges are under way each way; the next one completes the oldest first, at the same point on
// every rank, so that buffers are bounded and all ranks make the same calls in the same order.
class OwnerExchange {
 public:
  // ZeRO stage `zero`, `block`: see reducer.h.
  OwnerExchange(Communicator& communicator, Allocator& allocator, ReducedStorage storage, int zero, size_t block)
      : communicator_(communicator), allocator_(allocator), storage_(storage), zero_(zero), block_(block) {}

  // Sums a bucket's gradients: into the owners' gradients and, without ZeRO, from there to the other holders'; with
  // zero = 2 `lent` holds the gradients and is released, and the sums are added to the shard, or overwrite it when
  // `first`.
  void reduce(const ExchangePlan& plan, Tensor lent, bool first, CollectiveLabel label);
  void finish_reducing();
  // Owners' values to the other holders.
  void publish(const ExchangePlan& plan);
  void finish_publishing();
  // Spent waiting since the last call.
  double take_waited_seconds();

 private:
  static constexpr size_t kInFlight = 2;

  struct Flight {
    const ExchangePlan* plan;
    Tensor lent;
    bool first;
    Tensor sent, received;
    WorkPtr work;
  };
  char* gradient(const Flight& flight, int64_t element) const;
  Tensor buffer(int64_t elements) const;
  void wait(Flight& flight);
  void arrive(Flight flight);
  void add_up(const Flight& flight) const;
  void add_to_shard(const ExchangePlan::Owned& owned, const char* sum, bool first) const;
  void send_back(Flight flight, TensorView source, CollectiveLabel label);
  void spread(Flight flight, TensorView target);
  void land(size_t most);
  void land_returning(size_t most, TensorView target);

  Communicator& communicator_;
  Allocator& allocator_;
  ReducedStorage storage_;
  const int zero_;
  const size_t block_;
  std::deque<Flight> outgoing_, returning_;
  double waited_ = 0;
};

}  // namespace cadre::parallel
