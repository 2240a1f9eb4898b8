#include "launch/plan/stage_plan.h"

#include <algorithm>
#include <cmath>

namespace cadre::launch {

using parallel::ScheduleKind;

namespace {

parallel::ScheduleShape filled(parallel::ScheduleShape shape) {
  shape.micro_batches = std::min(shape.micro_batches, 4 * shape.ranks);
  return shape;
}

}  // namespace

StagePlan::StagePlan(const ModelProfile& profile, const model::NetworkSettings& network,
                     const parallel::ScheduleShape& shape, const std::vector<int64_t>& layers_per_stage)
    : profile_(profile),
      tied_(network.model.tie_embeddings),
      shape_(shape),
      schedule_(parallel::make_schedule(filled(shape))),
      blocks_(static_cast<size_t>(shape.stages())) {
  int64_t layer = 0;
  for (size_t stage = 0; stage < blocks_.size(); ++stage) {
    for (int64_t end = layer + layers_per_stage[stage]; layer < end; ++layer) {
      blocks_[stage].push_back(&profile.layer(layer));
    }
  }
  blocks_.front().insert(blocks_.front().begin(), &profile.embedding());
  blocks_.back().push_back(&profile.head());
}

std::vector<const BlockProfile*> StagePlan::blocks_of_rank(int rank) const {
  std::vector<const BlockProfile*> all;
  for (int chunk = 0; chunk < shape_.chunks; ++chunk) {
    const auto& some = blocks(shape_.stage_at(rank, chunk));
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

double Elements::Part::owned(int holders) const {
  return pieces == 0 ? 0 : std::min(count, count * std::ceil(pieces / (holders * copies)) / pieces);
}

// Tied, the embedding belongs to the first stage and to the last one, too.
Elements StagePlan::elements(int rank) const {
  Elements elements;
  const auto add = [](Elements::Part& part, int64_t count, int64_t pieces, int64_t largest) {
    part.count += static_cast<double>(count);
    part.pieces += static_cast<double>(pieces);
    part.largest = std::max(part.largest, static_cast<double>(largest));
  };
  for (const BlockProfile* block : blocks_of_rank(rank)) {
    add(elements.experts, block->expert_parameters, block->expert_pieces, block->largest_of_experts);
    elements.experts.copies = std::max(elements.experts.copies, block->expert_copies);
    if (block->kind != BlockKind::kEmbedding) add(elements.dense, block->parameters, block->pieces, block->largest);
  }
  const bool shared = tied_ && shape_.ranks > 1;
  const BlockProfile& table = profile_.embedding();
  const bool here = rank == 0 || (shared && rank + 1 == shape_.ranks);
  if (here) add(shared ? elements.embedding : elements.dense, table.parameters, table.pieces, table.largest);
  return elements;
}

int64_t StagePlan::pieces() const {
  int64_t pieces = 0;
  for (const auto& stage : blocks_) {
    for (const BlockProfile* block : stage) pieces += block->pieces + block->pieces_of_all_experts;
  }
  return pieces;
}

parallel::StageMemory StagePlan::memory(int stage) const {
  parallel::StageMemory memory{0, 0};
  for (const BlockProfile* block : blocks(stage)) {
    memory.activations += static_cast<double>(block->kept);
    memory.deferred += static_cast<double>(block->deferred);
  }
  // The trainer holds a stage's output until its backward.
  if (stage + 1 < stages()) memory.activations += static_cast<double>(size_class(profile_.stream_bytes));
  return memory;
}

// While a block runs forward, those behind it hold nothing yet; while it runs backward, they hold nothing any longer.
double StagePlan::transient(int stage) const {
  double most = 0, behind = 0;
  const auto& all = blocks(stage);
  for (auto block = all.rbegin(); block != all.rend(); ++block) {
    most = std::max(most, static_cast<double>(std::max((*block)->forward_peak, (*block)->backward_peak)) - behind);
    behind += static_cast<double>((*block)->kept);
  }
  return most;
}

std::vector<double> StagePlan::peak_activations() const {
  std::vector<parallel::StageMemory> memory_of;
  for (int stage = 0; stage < stages(); ++stage) memory_of.push_back(memory(stage));
  std::vector<double> peaks = parallel::peak_bytes(schedule_, memory_of);
  const double all = static_cast<double>(shape_.micro_batches) / schedule_.shape.micro_batches;
  for (int rank = 0; rank < shape_.ranks; ++rank) {
    double& peak = peaks[static_cast<size_t>(rank)];
    if (shape_.kind == ScheduleKind::kGPipe) peak *= all;
    double besides = 0;
    for (int chunk = 0; chunk < shape_.chunks; ++chunk) {
      besides = std::max(besides, transient(shape_.stage_at(rank, chunk)));
    }
    peak += besides;
  }
  return peaks;
}

}  // namespace cadre::launch
