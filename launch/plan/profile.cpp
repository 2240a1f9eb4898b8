#include "launch/plan/profile.h"

#include <algorithm>
#include <utility>

#include "launch/bench/timing.h"
#include "launch/plan/block_runner.h"
#include "parallel/data/ownership.h"

namespace cadre::launch {
namespace {

constexpr int kMicroBatches = 3;  // the first two of a step differ, since they pack weights

void count_parameters(const BlockRunner& runner, const model::ExpertLayout& experts, ModelProfile& profile) {
  const auto& parameters = runner.store().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const autograd::Parameter& parameter = *parameters[i];
    const size_t index = runner.block_of(parameter);
    BlockProfile& block = profile.blocks[index];
    const int64_t layer = runner.blocks()[index].layer;
    const int64_t end = i + 1 < parameters.size() ? parameters[i + 1]->offset : runner.store().elements();
    const int64_t elements = end - parameter.offset;
    int64_t pieces = 0;
    for (const autograd::Segment& segment : parameter.segments) pieces += parallel::pieces_of(segment.count());
    const int expert = parameter.segments.front().expert;
    if (expert < 0 || expert >= experts.layer(layer).computing()) {
      block.parameters += elements;
      block.pieces += pieces;
      block.largest = std::max(block.largest, elements);
    } else {
      block.expert_copies = runner.expert_copies(layer);
      block.expert_parameters += elements;
      block.expert_pieces += pieces;
      block.pieces_of_all_experts += pieces / parameter.groups() * experts.layer(layer).computing();
      block.largest_of_experts = std::max(block.largest_of_experts, elements);
    }
  }
}

ModelProfile blocks_of(const BlockRunner& runner) {
  ModelProfile profile;
  for (const BlockRunner::Block& block : runner.blocks()) {
    profile.blocks.emplace_back();
    profile.blocks.back().kind = block.kind;
  }
  profile.block_of_layer = runner.block_of_layer();
  return profile;
}

}  // namespace

const char* name_of(BlockKind kind) {
  switch (kind) {
    case BlockKind::kEmbedding: return "embedding";
    case BlockKind::kDenseLayer: return "dense layer";
    case BlockKind::kMoeLayer: return "MoE layer";
    case BlockKind::kHead: return "output layer";
  }
  return "?";
}

const BlockProfile* ModelProfile::find(BlockKind kind) const {
  for (const BlockProfile& block : blocks) {
    if (block.kind == kind) return &block;
  }
  return nullptr;
}

ModelProfile profile_model(const model::NetworkSettings& network, const ProfileShape& shape,
                           const kernels::Exec& exec) {
  const std::shared_ptr<Allocator> allocator = make_counting_allocator();
  const auto in_use = [&] { return static_cast<int64_t>(allocator->stats().in_use); };
  BlockRunner runner(network, shape, {exec.threads, exec.isa, /*dry=*/true}, *allocator);
  ModelProfile profile = blocks_of(runner);
  count_parameters(runner, model::ExpertLayout(network), profile);
  profile.stream_bytes =
      shape.sequences * shape.seq_length * network.model.hidden_size * static_cast<int64_t>(size_of(shape.dtype));
  runner.start_step();
  for (size_t i = 0; i < profile.blocks.size(); ++i) {
    BlockProfile& block = profile.blocks[i];
    const int64_t before = in_use();
    runner.run(i);
    block.packed_once = in_use() - before;
    runner.run(i);
    block.packed = in_use() - before;
    if (block.kind == BlockKind::kEmbedding) {  // packs nothing, but is the first that wants the rotary table
      profile.shared_bytes = std::exchange(block.packed, 0);
      block.packed_once = 0;
    }
    runner.profiler().clear();
    runner.traffic().clear();
    const BlockRunner::Memory memory = runner.run(i);
    block.work = runner.profiler().times();
    block.traffic = runner.traffic();
    block.kept = memory.kept;
    block.forward_peak = memory.forward_peak;
    block.backward_peak = memory.backward_peak;
    block.deferred = runner.run(i, /*split=*/true).deferred;
  }
  return profile;
}

std::vector<ModelProfile> time_model(const model::NetworkSettings& network, const ProfileShape& shape,
                                     const kernels::Exec& exec, int rounds) {
  const std::shared_ptr<Allocator> allocator = make_host_allocator();
  BlockRunner runner(network, shape, exec, *allocator);
  std::vector<ModelProfile> profiles(kMicroBatches, blocks_of(runner));
  std::map<autograd::OpTime*, std::vector<double>> seconds;
  for (int round = -1; round < rounds; ++round) {  // the first to warm up
    runner.start_step();
    for (ModelProfile& profile : profiles) {
      for (size_t i = 0; i < profile.blocks.size(); ++i) {
        runner.profiler().clear();
        runner.run(i);
        for (const auto& [op, time] : runner.profiler().times()) {
          const auto place = profile.blocks[i].work.emplace(op, time).first;
          if (round >= 0) seconds[&place->second].push_back(time.seconds);
        }
      }
    }
  }
  for (auto& [time, all] : seconds) time->seconds = median(std::move(all));
  return profiles;
}

}  // namespace cadre::launch
