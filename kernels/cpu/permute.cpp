#include "kernels/cpu/permute.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/error.h"

namespace cadre::cpu {
namespace {

constexpr int32_t kNoExpert = -1;           // in a slot that is not used
constexpr int64_t kSlotsPerWorker = 16384;  // fewer are planned faster by one worker

// Counts per worker and expert, then turned into the number of the expert's slots before this worker's.
struct Histogram {
  int64_t* counts;  // [workers, experts]
  int64_t* totals;  // [experts]
  int workers;
  int64_t experts;
  int64_t all_experts;
  int64_t slots;

  int64_t* of(int worker) const { return counts + worker * experts; }

  void count(const int32_t* ids, int64_t k, int worker) const {
    int64_t* mine = of(worker);
    std::fill_n(mine, experts, 0);
    const Range part = split(slots, worker, workers);
    for (int64_t slot = part.begin; slot < part.end; ++slot) {
      if (ids[slot] == kNoExpert) continue;
      if (ids[slot] < 0 || ids[slot] >= all_experts) {
        throw InternalError("plan_rows: expert id " + std::to_string(ids[slot]) + " of token " +
                            std::to_string(slot / k) + ", wanted 0.." + std::to_string(all_experts - 1) + " or -1");
      }
      if (ids[slot] < experts) ++mine[ids[slot]];
    }
  }

  void accumulate() const {
    for (int64_t e = 0; e < experts; ++e) {
      int64_t before = 0;
      for (int worker = 0; worker < workers; ++worker) {
        const int64_t own = of(worker)[e];
        of(worker)[e] = before;
        before += own;
      }
      totals[e] = before;
    }
  }

  // starts [experts + 1]: the first row of each expert when it keeps at most `capacity` slots.
  void starts(int64_t capacity, int64_t* rows) const {
    rows[0] = 0;
    for (int64_t e = 0; e < experts; ++e) rows[e + 1] = rows[e] + std::min(totals[e], capacity);
  }

  // Places this worker's slots; those past `capacity` get row -1. row_of_slot may be null.
  void place(const int32_t* ids, int64_t capacity, const int64_t* starts, int32_t* row_of_slot, int32_t* slot_of_row,
             int worker) const {
    int64_t* rank = of(worker);
    const Range part = split(slots, worker, workers);
    for (int64_t slot = part.begin; slot < part.end; ++slot) {
      const int32_t expert = ids[slot];
      if (expert == kNoExpert || expert >= experts) continue;
      const int64_t place = rank[expert]++;
      const bool kept = place < capacity;
      const int64_t row = starts[expert] + place;
      if (kept) slot_of_row[row] = static_cast<int32_t>(slot);
      if (row_of_slot != nullptr) row_of_slot[slot] = kept ? static_cast<int32_t>(row) : -1;
    }
  }
};

// Keeps the `capacity` slots of largest weight among an expert's, in slot order, as rows from `row`. `spare` has room
// for all of them.
void keep_best(const RowPlan& plan, const int32_t* slots, int64_t count, int64_t row, int32_t* spare) {
  // NaN would break the order that nth_element relies on; it counts as the smallest weight.
  const auto key = [&](int32_t slot) {
    const float weight = plan.weights[slot];
    return weight == weight ? weight : -std::numeric_limits<float>::infinity();
  };
  const auto before = [&](int32_t a, int32_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; };
  const bool full = count > plan.capacity;
  if (full && plan.capacity > 0) {
    std::copy_n(slots, count, spare);
    std::nth_element(spare, spare + (plan.capacity - 1), spare + count, before);
  }
  for (int64_t i = 0; i < count; ++i) {
    const bool kept = !full || (plan.capacity > 0 && !before(spare[plan.capacity - 1], slots[i]));
    if (kept) plan.slot_of_row[row] = slots[i];
    plan.row_of_slot[slots[i]] = kept ? static_cast<int32_t>(row++) : -1;
  }
}

}  // namespace

void plan_rows(ThreadPool& threads, const RowPlan& plan) {
  const int64_t slots = plan.tokens * plan.k;
  const int64_t experts = plan.experts;
  const int workers = static_cast<int>(std::clamp<int64_t>(slots / kSlotsPerWorker, 1, threads.size()));
  const int64_t numbers = (workers + 1) * experts + experts + 1;
  auto* scratch = static_cast<int64_t*>(threads.scratch(
      0, static_cast<size_t>(numbers) * sizeof(int64_t) + 2 * static_cast<size_t>(slots) * sizeof(int32_t)));
  const Histogram histogram{scratch, scratch + workers * experts, workers, experts, plan.all_experts, slots};
  int64_t* all_starts = histogram.totals + experts;
  auto* all_slots = reinterpret_cast<int32_t*>(scratch + numbers);
  int32_t* spare = all_slots + slots;

  std::fill_n(plan.row_of_slot, slots, -1);
  const auto each_worker = [&](auto body) {
    if (workers == 1) return body(0);
    threads.run([&](int worker) {
      if (worker < workers) body(worker);
    });
  };
  each_worker([&](int worker) { histogram.count(plan.ids, plan.k, worker); });
  histogram.accumulate();
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  const int64_t capacity = plan.capacity < 0 ? kAll : plan.capacity;
  histogram.starts(capacity, plan.offsets);
  histogram.starts(kAll, all_starts);
  const bool keeps_all = plan.offsets[experts] == all_starts[experts];
  if (plan.policy == kernels::DropPolicy::kByPosition || keeps_all) {
    return each_worker([&](int worker) {
      histogram.place(plan.ids, capacity, plan.offsets, plan.row_of_slot, plan.slot_of_row, worker);
    });
  }
  // By score: every slot in expert order first, then the best of each expert.
  each_worker([&](int worker) { histogram.place(plan.ids, kAll, all_starts, nullptr, all_slots, worker); });
  parallel_for(threads, experts, std::max<int64_t>(1, experts * kSlotsPerWorker / slots),
               [&](int64_t begin, int64_t end) {
                 for (int64_t e = begin; e < end; ++e) {
                   const int64_t first = all_starts[e];
                   keep_best(plan, all_slots + first, all_starts[e + 1] - first, plan.offsets[e], spare + first);
                 }
               });
}

}  // namespace cadre::cpu
