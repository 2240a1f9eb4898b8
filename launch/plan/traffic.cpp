#include "launch/plan/traffic.h"

#include <algorithm>
#include <cmath>

namespace cadre::launch {
namespace {

using parallel::Axis;
using parallel::Layout;

constexpr double kMib = 1048576;

// Ranks of a group, and how far apart they are.
struct GroupShape {
  int ranks = 1, stride = 1;
};

GroupShape shape_along(const Layout& layout, Axis axis) {
  switch (axis) {
    case Axis::kWorld: return {layout.ranks(), 1};
    case Axis::kData: return {layout.data, 1};
    case Axis::kPipeline: return {2, layout.data};  // a message has one receiver
    case Axis::kExpert: return {layout.expert, 1};
    case Axis::kExpertData: return {layout.expert_data(), layout.expert};
    case Axis::kEmbedding: return {2 * layout.data, 1};
  }
  return {};
}

class Counter {
 public:
  explicit Counter(const Layout& layout) : layout_(layout) {}

  void add(Axis axis, const char* name, int64_t calls, double bytes) {
    if (bytes <= 0) return;
    parallel::TrafficCount& count = traffic_[{parallel::name_of(axis), name}];
    count.calls += calls;
    count.bytes += bytes;
  }
  // Every part goes to the rank that sums it, and comes back.
  void all_reduce(Axis axis, const char* name, int64_t calls, double bytes) {
    const int ranks = axis == Axis::kPipeline ? layout_.pipeline : shape_along(layout_, axis).ranks;
    add(axis, name, calls, 2 * bytes * (ranks - 1) / ranks);
  }
  void add(const parallel::Traffic& of_micro_batch, int64_t micro_batches) {
    for (const auto& [key, count] : of_micro_batch) {
      traffic_[key].calls += micro_batches * count.calls;
      traffic_[key].bytes += static_cast<double>(micro_batches) * count.bytes;
    }
  }
  parallel::Traffic take() { return std::move(traffic_); }

 private:
  const Layout& layout_;
  parallel::Traffic traffic_;
};

}  // namespace

parallel::Traffic rank_traffic(const Settings& settings, const model::ExpertLayout& experts, const Layout& layout,
                               const StagePlan& plan, int rank, bool reproducible) {
  Counter counter(layout);
  const parallel::ScheduleShape& shape = plan.shape();
  for (const BlockProfile* block : plan.blocks_of_rank(rank)) counter.add(block->traffic, shape.micro_batches);
  const Elements elements = plan.elements(rank);
  // Contributions go to the owners, and the sums back to the holders, or with ZeRO the updated values.
  const auto reduce = [&](Axis axis, const Elements::Part& part, int holders, const char* name,
                          bool across_stages = false) {
    const double bytes = part.count * static_cast<double>(size_of(settings.precision.dtype()));
    const double bucket = std::max(settings.parallel.bucket_mib * kMib, part.largest / part.count * bytes);
    const auto buckets = part.count > 0 ? static_cast<int64_t>(std::ceil(bytes / bucket)) : 0;
    const double ranks = holders * part.copies, one_way = bytes * (ranks - 1) / ranks;
    if (settings.parallel.zero == 0 && part.copies > 1) {
      counter.add(axis, "gradient sums", buckets, one_way);
      return counter.add(axis, name, buckets, one_way);
    }
    if (settings.parallel.zero == 0) return counter.add(axis, name, buckets, 2 * one_way);
    const int64_t times = settings.parallel.zero == 2 && !across_stages ? shape.micro_batches : 1;
    counter.add(axis, name, times * buckets, static_cast<double>(times) * one_way);
    counter.add(axis, "parameter values", buckets, one_way);
  };
  reduce(Axis::kData, elements.dense, layout.data, "gradients");
  const bool replicas = elements.experts.copies > 1;
  reduce(replicas ? Axis::kData : Axis::kExpertData, elements.experts, layout.expert_data(), "expert gradients");
  reduce(Axis::kEmbedding, elements.embedding, 2 * layout.data, "gradients", /*across_stages=*/true);
  if (reproducible && settings.model.tie_embeddings && layout.pipeline == 1) {
    const BlockProfile& table = plan.profile().embedding();
    const double bytes =
        static_cast<double>(table.parameters) * static_cast<double>(size_of(settings.precision.dtype()));
    counter.all_reduce(Axis::kData, "gradients of a tied embedding", 1, bytes);
  }
  const double stream = static_cast<double>(plan.profile().stream_bytes) * shape.micro_batches;
  for (int chunk = 0; shape.ranks > 1 && chunk < shape.chunks; ++chunk) {
    const int stage = shape.stage_at(rank, chunk);
    if (stage + 1 < plan.stages()) counter.add(Axis::kPipeline, "activation", shape.micro_batches, stream);
    if (stage > 0) counter.add(Axis::kPipeline, "activation gradient", shape.micro_batches, stream);
  }
  // And by layer two losses, its experts' choices and the rows that they computed. Steps that measure experts have
  // more.
  constexpr int64_t kLossVotesEnergy = 4;
  int64_t statistics = kLossVotesEnergy;
  int64_t of_expert = settings.moe.isolation ? 3 : 2;                              // with its faults
  if (settings.moe.router.choice == kernels::ChoiceKind::kExpert) of_expert += 2;  // and the lowest keys that it took
  for (const int64_t layer : experts.moe_layers()) statistics += of_expert * experts.layer(layer).experts() + 2;
  for (const Axis axis : {Axis::kData, Axis::kPipeline}) {
    counter.all_reduce(axis, "step_statistics", 1, 8 * static_cast<double>(statistics));
  }
  counter.all_reduce(Axis::kWorld, "gradient norms", 1, 8 * static_cast<double>(plan.pieces()));
  return counter.take();
}

double traffic_seconds(const Device& device, const Layout& layout, Axis axis, const parallel::Traffic& traffic) {
  const GroupShape group = shape_along(layout, axis);
  const int neighbours = std::clamp(device.node_ranks / group.stride, 1, group.ranks);
  const double near = group.ranks > 1 ? static_cast<double>(neighbours - 1) / (group.ranks - 1) : 1;
  double seconds = 0;
  for (const auto& [key, count] : traffic) {
    if (key.first != parallel::name_of(axis)) continue;
    const double start = near < 1 ? device.far.seconds : device.near.seconds;
    seconds += start * static_cast<double>(count.calls) + near * count.bytes / device.near.bytes_per_second +
               (1 - near) * count.bytes / device.far.bytes_per_second;
  }
  return seconds;
}

}  // namespace cadre::launch
