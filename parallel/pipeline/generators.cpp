#include "parallel/pipeline/generators.h"

#include <algorithm>

namespace cadre::parallel {
namespace {

// All forwards (or backwards) of a rank in their order.
std::vector<Action> in_groups(const ScheduleShape& shape, int rank, ActionKind kind) {
  std::vector<Action> actions;
  int begin = 0;
  for (const int size : interleaved_groups(shape)) {
    for (int i = 0; i < shape.chunks; ++i) {
      const int chunk = kind == ActionKind::kForward ? i : shape.chunks - 1 - i;
      for (int offset = 0; offset < size; ++offset) {
        actions.push_back({kind, shape.stage_at(rank, chunk), begin + offset});
      }
    }
    begin += size;
  }
  return actions;
}

std::vector<Action> one_forward_one_backward(const ScheduleShape& shape, int rank) {
  const std::vector<Action> forwards = in_groups(shape, rank, ActionKind::kForward);
  const std::vector<Action> backwards = in_groups(shape, rank, ActionKind::kBackward);
  const size_t ahead = static_cast<size_t>(forwards_ahead(shape, rank));
  std::vector<Action> actions;
  for (size_t i = 0; i < forwards.size() + ahead; ++i) {
    if (i < forwards.size()) actions.push_back(forwards[i]);
    if (i >= ahead) actions.push_back(backwards[i - ahead]);
  }
  return actions;
}

std::vector<Action> split_backwards(const std::vector<Action>& whole, int rank, int micro_batches) {
  std::vector<Action> actions;
  int weights = 0;
  const auto add_weights = [&] { actions.push_back({ActionKind::kBackwardWeights, rank, weights++}); };
  for (Action action : whole) {
    if (action.kind == ActionKind::kForward) {
      actions.push_back(action);
      continue;
    }
    action.kind = ActionKind::kBackwardInputs;
    actions.push_back(action);
    if (action.micro_batch >= rank) add_weights();
  }
  while (weights < micro_batches) add_weights();
  return actions;
}

}  // namespace

std::vector<int> interleaved_groups(const ScheduleShape& shape) {
  const int count = shape.chunks == 1 ? 1 : std::max(1, shape.micro_batches / shape.ranks);
  std::vector<int> sizes(static_cast<size_t>(count), shape.micro_batches / count);
  for (int i = 0; i < shape.micro_batches % count; ++i) ++sizes[static_cast<size_t>(i)];
  return sizes;
}

int forwards_ahead(const ScheduleShape& shape, int rank) {
  const int all = shape.chunks * shape.micro_batches;
  const int later_ranks = shape.ranks - 1 - rank;
  if (shape.kind == ScheduleKind::kGPipe) return all;
  if (shape.chunks == 1) return std::min(all, later_ranks);
  return std::min(all, 2 * later_ranks + (shape.chunks - 1) * interleaved_groups(shape).front());
}

ActionLists compute_actions(const ScheduleShape& shape) {
  ActionLists ranks;
  for (int rank = 0; rank < shape.ranks; ++rank) {
    ranks.push_back(one_forward_one_backward(shape, rank));
    if (shape.kind == ScheduleKind::kZeroBubble) {
      ranks.back() = split_backwards(ranks.back(), rank, shape.micro_batches);
    }
  }
  return ranks;
}

}  // namespace cadre::parallel
