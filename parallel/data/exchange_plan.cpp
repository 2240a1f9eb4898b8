#include "parallel/data/exchange_plan.h"

#include <algorithm>
#include <numeric>

namespace cadre::parallel {
namespace {

int64_t sum_of(const std::vector<int64_t>& values) { return std::accumulate(values.begin(), values.end(), int64_t{0}); }

// Contributions arrive by source, then by segment. `received` holds sources and gets places.
void place_received(ExchangePlan& plan) {
  std::vector<int64_t> next(plan.receive_elements.size());
  std::exclusive_scan(plan.receive_elements.begin(), plan.receive_elements.end(), next.begin(), int64_t{0});
  for (ExchangePlan::Owned& owned : plan.owned) {
    for (int64_t& holder : owned.received) {
      if (holder < 0) continue;
      int64_t& position = next[static_cast<size_t>(holder)];
      holder = position;
      position += owned.elements;
    }
  }
}

}  // namespace

int64_t ExchangePlan::sent_elements() const { return sum_of(send_elements); }
int64_t ExchangePlan::received_elements() const { return sum_of(receive_elements); }

ExchangePlan plan_exchange(const std::vector<SegmentPlace>& segments, int rank, int ranks) {
  ExchangePlan plan;
  plan.send_elements.resize(static_cast<size_t>(ranks));
  plan.receive_elements.resize(static_cast<size_t>(ranks));
  std::vector<std::vector<ExchangePlan::Sent>> sent(static_cast<size_t>(ranks));
  for (const SegmentPlace& place : segments) {
    const HeldSegment& segment = *place.segment;
    if (!std::binary_search(segment.holders.begin(), segment.holders.end(), rank)) continue;
    const int holders = static_cast<int>(segment.holders.size());
    for (int index = 0; index < holders; ++index) {
      const ElementRange range = owned_range(segment.elements, segment.first_piece, index, holders);
      const auto owner = static_cast<size_t>(segment.holders[static_cast<size_t>(index)]);
      if (range.count() == 0) continue;
      const int64_t value = place.value + range.begin, gradient = place.gradient + range.begin;
      if (static_cast<int>(owner) != rank) {
        sent[owner].push_back({value, gradient, range.count()});
        plan.send_elements[owner] += range.count();
        continue;
      }
      plan.owned.push_back({value, gradient, segment.shard_offset, range.count(), {}});
      for (const int holder : segment.holders) {
        plan.owned.back().received.push_back(holder == rank ? -1 : holder);
        if (holder != rank) plan.receive_elements[static_cast<size_t>(holder)] += range.count();
      }
    }
  }
  for (const auto& to : sent) plan.sent.insert(plan.sent.end(), to.begin(), to.end());
  place_received(plan);
  return plan;
}

}  // namespace cadre::parallel
