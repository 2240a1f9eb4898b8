#include "parallel/data/owner_exchange.h"

#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "parallel/comm/reduction.h"

namespace cadre::parallel {
namespace {

char* at(TensorView flat, int64_t element) {
  return static_cast<char*>(flat.data) + static_cast<size_t>(element) * size_of(flat.dtype);
}

}  // namespace

Tensor OwnerExchange::buffer(int64_t elements) const {
  return Tensor::empty(allocator_, storage_.values.dtype, Shape{elements});
}

char* OwnerExchange::gradient(const Flight& flight, int64_t element) const {
  return at(zero_ == 2 ? flight.lent.view() : storage_.gradients, element);
}

void OwnerExchange::reduce(const ExchangePlan& plan, Tensor lent, bool first, CollectiveLabel label) {
  Flight flight{&plan, std::move(lent), first, {}, {}, nullptr};
  if (communicator_.size() == 1) return add_up(flight);
  flight.sent = buffer(plan.sent_elements());
  flight.received = buffer(plan.received_elements());
  int64_t position = 0;
  for (const ExchangePlan::Sent& part : plan.sent) {
    std::memcpy(at(flight.sent, position), gradient(flight, part.gradient),
                static_cast<size_t>(part.elements) * size_of(flight.sent.dtype()));
    position += part.elements;
  }
  flight.work =
      communicator_.all_to_all(flight.sent, plan.send_elements, flight.received, plan.receive_elements, label);
  outgoing_.push_back(std::move(flight));
  land(kInFlight);
}

void OwnerExchange::finish_reducing() {
  land(0);
  land_returning(0, storage_.gradients);
}

void OwnerExchange::publish(const ExchangePlan& plan) {
  if (communicator_.size() == 1) return;
  send_back({&plan, {}, false, buffer(plan.sent_elements()), buffer(plan.received_elements()), nullptr},
            storage_.values, {"parameter values"});
  land_returning(kInFlight, storage_.values);
}

void OwnerExchange::finish_publishing() { land_returning(0, storage_.values); }

double OwnerExchange::take_waited_seconds() { return std::exchange(waited_, 0); }

void OwnerExchange::wait(Flight& flight) {
  const auto start = std::chrono::steady_clock::now();
  flight.work->wait();
  flight.work.reset();
  waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void OwnerExchange::land(size_t most) {
  while (outgoing_.size() > most) {
    Flight flight = std::move(outgoing_.front());
    outgoing_.pop_front();
    wait(flight);
    arrive(std::move(flight));
  }
}

void OwnerExchange::land_returning(size_t most, TensorView target) {
  while (returning_.size() > most) {
    Flight flight = std::move(returning_.front());
    returning_.pop_front();
    wait(flight);
    spread(std::move(flight), target);
  }
}

void OwnerExchange::arrive(Flight flight) {
  add_up(flight);
  if (zero_ > 0) return;
  send_back(std::move(flight), storage_.gradients, {"gradient sums"});
  land_returning(kInFlight, storage_.gradients);
}

// In place of the own contribution, which is one of the sources.
void OwnerExchange::add_up(const Flight& flight) const {
  const Dtype dtype = storage_.values.dtype;
  std::vector<const void*> sources;
  for (const ExchangePlan::Owned& owned : flight.plan->owned) {
    char* const own = gradient(flight, owned.gradient);
    sources.clear();
    for (const int64_t place : owned.received) sources.push_back(place < 0 ? own : at(flight.received, place));
    if (sources.size() > 1) {
      reduce_in_order(dtype, Reduction::kSum, sources, owned.elements, own, nullptr, block_);
    }
    if (zero_ == 2) add_to_shard(owned, own, flight.first);
  }
}

void OwnerExchange::add_to_shard(const ExchangePlan::Owned& owned, const char* sum, bool first) const {
  char* const target = at(storage_.shard, owned.shard);
  const Dtype dtype = storage_.values.dtype;
  if (first) {
    std::memcpy(target, sum, static_cast<size_t>(owned.elements) * size_of(dtype));
  } else {
    reduce_in_order(dtype, Reduction::kSum, {target, sum}, owned.elements, target);
  }
}

void OwnerExchange::send_back(Flight flight, TensorView source, CollectiveLabel label) {
  const ExchangePlan& plan = *flight.plan;
  for (const ExchangePlan::Owned& owned : plan.owned) {
    const size_t bytes = static_cast<size_t>(owned.elements) * size_of(source.dtype);
    for (const int64_t place : owned.received) {
      if (place >= 0) std::memcpy(at(flight.received, place), at(source, owned.value), bytes);
    }
  }
  flight.work =
      communicator_.all_to_all(flight.received, plan.receive_elements, flight.sent, plan.send_elements, label);
  returning_.push_back(std::move(flight));
}

void OwnerExchange::spread(Flight flight, TensorView target) {
  int64_t position = 0;
  for (const ExchangePlan::Sent& part : flight.plan->sent) {
    std::memcpy(at(target, part.value), at(flight.sent, position),
                static_cast<size_t>(part.elements) * size_of(target.dtype));
    position += part.elements;
  }
}

}  // namespace cadre::parallel
