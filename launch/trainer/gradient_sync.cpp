#include "launch/trainer/gradient_sync.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

namespace cadre::launch {
namespace {

// What one reducer reduces.
struct Share {
  Holders like;  // its group and how to sum over it
  std::vector<parallel::ReducedParameter> parameters;
};

Share& share_for(std::vector<Share>& shares, const Holders& holders) {
  const auto found =
      std::find_if(shares.begin(), shares.end(), [&](const Share& s) { return s.like.group == holders.group; });
  if (found != shares.end()) return *found;
  shares.push_back({holders, {}});
  return shares.back();
}

// In backward's order, which reverses that of declaration; the same on every rank, as is the order of the groups.
std::vector<Share> shares_of(const ModelShard& shard, const autograd::ParameterStore& store,
                             const optim::Optimizer& optimizer) {
  std::unordered_map<std::string, const optim::SegmentState*> here;
  for (const optim::SegmentState& segment : optimizer.segments()) here[segment.name] = &segment;
  std::vector<Share> shares;
  const std::vector<GlobalSegment>& all = shard.segments();
  for (size_t end = all.size(); end > 0;) {
    size_t begin = end;
    while (begin > 0 && all[begin - 1].parameter == all[end - 1].parameter) --begin;
    autograd::Parameter* const parameter = store.find(all[begin].parameter);
    parallel::ReducedParameter reduced{parameter, {}, shard.is_placed(all[begin]), shard.stage_of(all[begin])};
    Share* share = nullptr;
    for (size_t i = begin; i < end; ++i) {
      Holders holders = shard.holders_of(all[i]);
      if (holders.group == nullptr) continue;
      share = &share_for(shares, holders);
      parallel::HeldSegment segment{all[i].elements, all[i].first_piece, std::move(holders.ranks), 0, 0};
      if (const auto found = here.find(all[i].name); found != here.end()) {
        segment.offset = found->second->offset - parameter->offset;
        segment.shard_offset = found->second->state_offset;
      }
      reduced.segments.push_back(std::move(segment));
    }
    if (share != nullptr) share->parameters.push_back(std::move(reduced));
    end = begin;
  }
  return shares;
}

}  // namespace

GradientSync::GradientSync(const autograd::Context& context, const ModelShard& shard, autograd::ParameterStore& store,
                           const optim::Optimizer& optimizer, const GradientSyncOptions& options)
    : shard_(shard),
      store_(store),
      by_micro_batch_(optimizer.zero() == 2),
      slots_(store.parameters().size()),
      before_reduction_(options.before_reduction) {
  parallel::ReducedStorage storage{store.values(), {}, {}};
  (by_micro_batch_ ? storage.shard : storage.gradients) = optimizer.gradients();
  for (Share& share : shares_of(shard, store, optimizer)) {
    std::vector<std::pair<int, int64_t>> slots;
    for (size_t i = 0; i < share.parameters.size(); ++i) {
      const autograd::Parameter* parameter = share.parameters[i].parameter;
      if (parameter != nullptr) slots.emplace_back(parameter->index, static_cast<int64_t>(i));
    }
    reducers_.push_back(std::make_unique<parallel::Reducer>(
        *share.like.group, context.allocator, storage, std::move(share.parameters),
        parallel::ReducerOptions{options.bucket_bytes, optimizer.zero(), share.like.block, share.like.across_stages}));
    for (const auto& [parameter, index] : slots) {
      slots_[static_cast<size_t>(parameter)] = {reducers_.back().get(), index, share.like.across_stages};
    }
  }
  if (options.reproducible) trees_.emplace(context, store);
}

void GradientSync::start_step() {
  if (trees_) trees_->start_step();
  for (const auto& reducer : reducers_) reducer->start_step();
}

// A tied embedding's uses are summed over ranks apart, and then added: over the stages where they are in different
// ones, else in finish().
void GradientSync::ready(autograd::Parameter& parameter, bool last) {
  const Slot& slot = slots_[static_cast<size_t>(parameter.index)];
  if (trees_) trees_->complete(parameter, last);
  if (trees_ && last && slot.across_stages) {
    for (const autograd::GradientTrees::Use& use : trees_->other_uses()) {
      if (use.parameter == &parameter) trees_->join(use);
    }
  }
  if (last && before_reduction_) before_reduction_(parameter);
  slot.reducer->ready(slot.index, last);
}

void GradientSync::sum_other_uses() {
  for (const autograd::GradientTrees::Use& use : trees_->other_uses()) {
    if (slots_[static_cast<size_t>(use.parameter->index)].across_stages) continue;
    shard_.mesh()
        .along(parallel::Axis::kData)
        .all_reduce(use.gradient, parallel::Reduction::kSum, {"gradients of a tied embedding"})
        ->wait();
    trees_->join(use);
  }
}

parallel::ReducerReport GradientSync::finish() {
  if (!by_micro_batch_) store_.zero_untouched_gradients();
  parallel::ReducerReport report;
  for (const auto& reducer : reducers_) {
    const parallel::ReducerReport part = reducer->finish();
    report.buckets += part.buckets;
    report.bytes += part.bytes;
    report.started_before_finish += part.started_before_finish;
    report.exposed_seconds += part.exposed_seconds;
    report.start_seconds += part.start_seconds;
  }
  if (trees_) sum_other_uses();
  return report;
}

double GradientSync::publish() {
  double seconds = 0;
  for (const auto& reducer : reducers_) seconds += reducer->publish();
  store_.touch();
  return seconds;
}

}  // namespace cadre::launch
