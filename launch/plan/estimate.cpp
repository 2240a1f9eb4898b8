#include "launch/plan/estimate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "launch/plan/stage_plan.h"
#include "launch/plan/traffic.h"
#include "launch/trainer/expert_balance.h"
#include "launch/trainer/reproducible.h"
#include "launch/trainer/stages.h"
#include "model/flops.h"
#include "optim/expert_isolation.h"

namespace cadre::launch {
namespace {

using parallel::Axis;
using parallel::Layout;

double rounded(double bytes) { return static_cast<double>(size_class(static_cast<size_t>(bytes))); }

parallel::ScheduleShape shape_of(const ParallelSettings& parallel, const Layout& layout, int64_t micro_batches) {
  const bool one = layout.pipeline == 1;
  return {parallel.schedule, layout.pipeline, one ? 1 : static_cast<int>(parallel.stages_per_rank),
          static_cast<int>(micro_batches)};
}

// Explicit stages count where they are as many as the candidate has.
std::vector<int64_t> stages_for(const Settings& settings, const LayerCosts& costs,
                                const parallel::ScheduleShape& shape) {
  ParallelSettings parallel = settings.parallel;
  parallel.pipeline_parallel = shape.ranks;
  parallel.stages_per_rank = shape.chunks;
  const bool other = !parallel.layers_per_stage.is_auto() &&
                     parallel.layers_per_stage.value->size() != static_cast<size_t>(shape.stages());
  if (other) parallel.layers_per_stage = {};
  return decide_stages(parallel, costs);
}

// Experts that move by load are taken to have found their places, with loads alike.
std::vector<parallel::Placement> planned_placements(const Settings& settings, const model::ExpertLayout& layout,
                                                    int ranks) {
  const PlacementSettings& placement = settings.parallel.placement;
  std::vector<parallel::Placement> placements = first_placements(placement, layout, ranks);
  if (placement.kind != PlacementKind::kBalanced) return placements;
  for (const int64_t layer : layout.moe_layers()) {
    const parallel::ExpertLoads alike(static_cast<size_t>(layout.layer(layer).computing()), 1.0);
    placements[static_cast<size_t>(layer)] =
        parallel::balanced_placement(alike, ranks, static_cast<int>(placement.replicas));
  }
  return placements;
}

// One step's figures, built up part by part.
class Builder {
 public:
  Builder(const Estimator& estimator, const LayerCosts& costs, const ModelProfile& profile, const Candidate& candidate)
      : settings_(estimator.settings()),
        experts_(estimator.experts()),
        network_(settings_.network()),
        rules_(settings_.moe, experts_),
        device_(estimator.device()),
        profile_(profile),
        layout_(candidate.layout),
        dtype_(settings_.precision.dtype()) {
    result_.candidate = candidate;
    result_.micro_batches = settings_.batch.global_batch_size / candidate.micro_batch_size / layout_.data;
    ParallelSettings parallel = settings_.parallel;
    decide_reproducible(parallel, layout_, experts_, result_.micro_batches);
    result_.reproducible = parallel.reproducible.value_or(false);
    const parallel::ScheduleShape shape = shape_of(settings_.parallel, layout_, result_.micro_batches);
    result_.layers_per_stage = stages_for(settings_, costs, shape);
    plan_ = std::make_unique<StagePlan>(profile, network_, shape, result_.layers_per_stage);
    for (int rank = 0; rank < layout_.pipeline; ++rank) elements_.push_back(plan_->elements(rank));
  }

  Estimate build() {
    const std::vector<double> activations = plan_->peak_activations();
    const std::vector<int> receives = parallel::peak_receives(plan_->schedule());
    for (int rank = 0; rank < layout_.pipeline; ++rank) {
      const auto r = static_cast<size_t>(rank);
      result_.parameters = std::max(result_.parameters, static_cast<int64_t>(elements_[r].all()));
      result_.memory.push_back(memory_of(rank, activations[r], receives[r]));
      result_.traffic.push_back(rank_traffic(settings_, experts_, layout_, *plan_, rank, result_.reproducible));
    }
    add_pipeline(result_.time);
    for (int rank = 0; rank < layout_.pipeline; ++rank) add_rank(rank, result_.time);
    add_total();
    return std::move(result_);
  }

  parallel::Costs costs() const;
  std::vector<parallel::StageCosts> costs_of(int64_t ordinal) const;
  const StagePlan& plan() const { return *plan_; }

 private:
  double bytes(double elements) const { return elements * static_cast<double>(size_of(dtype_)); }
  // Of this rank's elements, those that it alone updates where an optimizer's state is sharded.
  double owned_by(int rank) const {
    const Elements& elements = elements_[static_cast<size_t>(rank)];
    return elements.dense.owned(layout_.data) + elements.experts.owned(layout_.expert_data()) +
           elements.embedding.owned(2 * layout_.data);
  }

  double exchange_buffers(const Elements::Part& part, int holders) const;
  double gradient_trees(const Elements& elements) const;
  template <class Is>
  double share_of_experts(int rank, const Is& is) const;
  double kept_of_experts(int rank) const;  // elements that have moments here
  double moments(int rank) const;
  double isolated_tensors(int rank) const;
  MemoryEstimate memory_of(int rank, double activations, int receives) const;
  double seconds_along(Axis axis, const parallel::Traffic& traffic) const {
    return traffic_seconds(device_, layout_, axis, traffic);
  }
  double exchange_seconds(const BlockProfile& block) const { return seconds_along(Axis::kExpert, block.traffic); }
  double exposed_exchange(double exchange, double experts) const;
  void add_pipeline(TimeEstimate& time) const;
  void add_rank(int rank, TimeEstimate& time) const;  // the most of what this rank and those before it need
  void add_total();

  const Settings& settings_;
  const model::ExpertLayout& experts_;
  model::NetworkSettings network_;
  optim::ExpertRules rules_;
  const Device& device_;
  const ModelProfile& profile_;
  Layout layout_;
  Dtype dtype_;
  std::unique_ptr<StagePlan> plan_;
  std::vector<Elements> elements_;  // [pipeline rank]
  Estimate result_;
};

// Of the buckets whose gradients are on their way to owners: what is sent, what comes, and with ZeRO-2 the gradients.
double Builder::exchange_buffers(const Elements::Part& part, int data_ranks) const {
  constexpr double kInFlight = 2;
  const double holders = data_ranks * part.copies;
  if (holders <= 1 || part.count == 0) return 0;
  const double bucket =
      std::min(bytes(part.count), std::max(settings_.parallel.bucket_mib * 1048576, bytes(part.largest)));
  const double buckets = std::min(kInFlight, std::ceil(bytes(part.count) / bucket));
  const double exchanged = 2 * rounded(bucket * (holders - 1) / holders);
  return buckets * (exchanged + (settings_.parallel.zero == 2 ? rounded(bucket) : 0));
}

// What parallel.reproducible adds to the gradients; both uses of a shared embedding have theirs.
double Builder::gradient_trees(const Elements& elements) const {
  if (!result_.reproducible) return 0;
  const ExtraGradients extra = extra_gradients(layout_, result_.micro_batches);
  const bool both_uses = network_.model.tie_embeddings && layout_.pipeline == 1;
  const double table = both_uses ? static_cast<double>(profile_.embedding().parameters) : 0;
  const auto levels = static_cast<double>(extra.dense), lanes = static_cast<double>(extra.experts);
  return bytes(levels * (elements.dense.count + elements.embedding.count) + (levels + 1) * table +
               lanes * elements.experts.count);
}

// Of the experts' parameters in a rank's layers: those of experts that `is` accepts, by layer and id.
template <class Is>
double Builder::share_of_experts(int rank, const Is& is) const {
  double all = 0, accepted = 0;
  int64_t layer = 0;
  for (size_t stage = 0; stage < result_.layers_per_stage.size(); ++stage) {
    const bool here = static_cast<int>(stage) % layout_.pipeline == rank;
    for (const int64_t end = layer + result_.layers_per_stage[stage]; layer < end; ++layer) {
      for (const model::ExpertSet& set : here ? experts_.layer(layer).routed : std::vector<model::ExpertSet>()) {
        if (!set.kind.computes()) continue;
        const double matrices = set.kind.activation == kernels::Activation::kSwiGlu ? 3 : 2;
        const double size = matrices * static_cast<double>(set.kind.ffn_hidden_size);
        for (int64_t i = 0; i < set.count; ++i) {
          all += size;
          accepted += is(static_cast<int>(layer), static_cast<int>(set.first + i)) ? size : 0;
        }
      }
    }
  }
  return all > 0 ? accepted / all : 0;
}

double Builder::kept_of_experts(int rank) const {
  const Elements::Part& experts = elements_[static_cast<size_t>(rank)].experts;
  return settings_.parallel.zero >= 1 ? experts.owned(layout_.expert_data()) : experts.count;
}

// Of everything the first, of what AdamW updates the second.
double Builder::moments(int rank) const {
  const optim::OptimizerKind dense = settings_.optimizer.kind, adamw = optim::OptimizerKind::kAdamW;
  const double all = settings_.parallel.zero >= 1 ? owned_by(rank) : elements_[static_cast<size_t>(rank)].all();
  const double experts = kept_of_experts(rank);
  const double of_adamw =
      share_of_experts(rank, [&](int layer, int expert) { return rules_.optimizer_of(layer, expert, dense) == adamw; });
  const double second = (dense == adamw ? all - experts : 0) + of_adamw * experts;
  return rounded(bytes(all)) + (second > 0 ? rounded(bytes(second)) : 0);
}

// Kept gradients; snapshots of the weights and moments.
double Builder::isolated_tensors(int rank) const {
  if (!settings_.moe.isolation) return 0;
  const model::IsolationSettings& settings = *settings_.moe.isolation;
  const optim::ExpertIsolation isolation(settings, experts_, settings_.optimizer.clip_norm);
  const auto isolated = [&](int layer, int expert) { return isolation.index_of(layer, expert) >= 0; };
  const auto adamw = [&](int layer, int expert) {
    const auto kind = rules_.optimizer_of(layer, expert, settings_.optimizer.kind);
    return isolated(layer, expert) && kind == optim::OptimizerKind::kAdamW;
  };
  const double whole = (settings.accumulate_tokens > 0 ? 1 : 0) + (settings.quarantine ? 2 : 0);
  const double kept = kept_of_experts(rank);
  const double second = settings.quarantine ? bytes(share_of_experts(rank, adamw) * kept) : 0;
  return whole * rounded(bytes(share_of_experts(rank, isolated) * kept)) + (second > 0 ? rounded(second) : 0);
}

MemoryEstimate Builder::memory_of(int rank, double activations, int receives) const {
  const Elements& elements = elements_[static_cast<size_t>(rank)];
  const int64_t zero = settings_.parallel.zero;
  const double own = owned_by(rank);
  MemoryEstimate memory;
  memory.weights = rounded(bytes(elements.all()));
  memory.moments = moments(rank) + isolated_tensors(rank);
  memory.gradients = rounded(bytes(zero >= 2 ? own : elements.all())) + gradient_trees(elements);
  if (zero >= 1) {
    // They are under way while the backward is in layers of one kind; the embedding's come last.
    memory.communication += std::max({exchange_buffers(elements.dense, layout_.data),
                                      exchange_buffers(elements.experts, layout_.expert_data()),
                                      exchange_buffers(elements.embedding, 2 * layout_.data)});
  }
  const double stream = rounded(static_cast<double>(profile_.stream_bytes));
  memory.communication += stream * (receives + (layout_.pipeline > 1 ? 1 : 0));
  if (device_.packs_weights) {
    for (const BlockProfile* block : plan_->blocks_of_rank(rank)) {
      memory.packed += static_cast<double>(result_.micro_batches == 1 ? block->packed_once : block->packed);
    }
  }
  memory.activations = activations;
  memory.other = static_cast<double>(profile_.shared_bytes) + rounded(8 * static_cast<double>(plan_->pieces()));
  return memory;
}

// The first two micro-batches of a step pack weights.
parallel::Costs Builder::costs() const {
  if (result_.micro_batches == 1) return {costs_of(0)};
  return {costs_of(2), {costs_of(0), costs_of(1)}};
}

// Of the `ordinal`-th micro-batch. Expert exchanges are half of them in the forward, half in the backward of inputs.
std::vector<parallel::StageCosts> Builder::costs_of(int64_t ordinal) const {
  parallel::Traffic message;
  message[{parallel::name_of(Axis::kPipeline), ""}] = {1, static_cast<double>(profile_.stream_bytes)};
  const double sending = layout_.pipeline > 1 ? seconds_along(Axis::kPipeline, message) : 0;
  std::vector<parallel::StageCosts> costs;
  for (int stage = 0; stage < plan_->stages(); ++stage) {
    parallel::StageCosts of_stage;
    for (const BlockProfile* block : plan_->blocks(stage)) {
      const BlockSeconds seconds = seconds_of(device_, *block, ordinal);
      const double exchange = exchange_seconds(*block) / 2;
      of_stage.forward += seconds.forward + exposed_exchange(exchange, seconds.experts_forward);
      of_stage.backward_inputs += seconds.backward_inputs + exposed_exchange(exchange, seconds.experts_backward);
      of_stage.backward_weights += seconds.backward_weights;
    }
    of_stage.backward = of_stage.backward_inputs + of_stage.backward_weights;
    of_stage.send_activation = of_stage.send_gradient = sending;
    costs.push_back(of_stage);
  }
  return costs;
}

// With chunks all of an exchange but the first part runs beside the experts, where a device can do both.
double Builder::exposed_exchange(double exchange, double experts) const {
  const auto chunks = static_cast<double>(settings_.parallel.overlap_chunks);
  if (!device_.overlaps || chunks == 1) return exchange;
  return exchange / chunks + (1 - 1 / chunks) * std::max(0.0, exchange - experts);
}

// More micro-batches than fill the pipeline each take the busiest rank's time for one.
void Builder::add_pipeline(TimeEstimate& time) const {
  const parallel::Schedule& schedule = plan_->schedule();
  const parallel::Costs costs = this->costs();
  const parallel::Timeline timeline = parallel::simulate(schedule, costs);
  const auto m = static_cast<double>(result_.micro_batches), more = m - schedule.shape.micro_batches;
  double busiest = 0, busy = 0;
  for (int rank = 0; rank < layout_.pipeline; ++rank) {
    double seconds = 0, dispatch = 0;
    for (int chunk = 0; chunk < schedule.shape.chunks; ++chunk) {
      const parallel::StageCosts& stage = costs.stages[static_cast<size_t>(schedule.shape.stage_at(rank, chunk))];
      seconds += stage.forward + stage.backward;
    }
    for (const BlockProfile* block : plan_->blocks_of_rank(rank)) dispatch += m * exchange_seconds(*block);
    busiest = std::max(busiest, seconds);
    busy += (timeline.busy[static_cast<size_t>(rank)] + more * seconds) / layout_.pipeline;
    time.dispatch = std::max(time.dispatch, dispatch);
  }
  time.pipeline = timeline.makespan + more * busiest;
  time.bubble = 1 - busy / time.pipeline;
}

void Builder::add_rank(int rank, TimeEstimate& time) const {
  double packing = 0, backward = 0, reducing = 0;
  for (const BlockProfile* block : plan_->blocks_of_rank(rank)) {
    const BlockSeconds later = seconds_of(device_, *block, 2);
    backward += later.backward_inputs + later.backward_weights;
    if (result_.micro_batches == 1) continue;  // whose costs include it
    for (const int64_t ordinal : {0, 1}) packing += seconds_of(device_, *block, ordinal).total() - later.total();
  }
  for (const Axis axis : {Axis::kData, Axis::kExpertData, Axis::kEmbedding}) {
    reducing += seconds_along(axis, result_.traffic[static_cast<size_t>(rank)]);
  }
  if (device_.overlaps) reducing = std::max(0.0, reducing - backward);
  const double updated = settings_.parallel.zero >= 1 ? owned_by(rank) : elements_[static_cast<size_t>(rank)].all();
  time.packing = std::max(time.packing, packing);
  time.gradients = std::max(time.gradients, reducing);
  time.update = std::max(time.update, update_seconds(device_, updated, dtype_));
}

void Builder::add_total() {
  TimeEstimate& time = result_.time;
  time.gradients += seconds_along(Axis::kWorld, result_.traffic.front());
  time.step = time.pipeline + time.gradients + time.update;
  double flops_of_token = model::head_flops(network_);
  for (int64_t layer = 0; layer < experts_.layers(); ++layer) {
    flops_of_token += model::layer_flops(network_, experts_.layer(layer), settings_.data.seq_length);
  }
  result_.tokens = static_cast<double>(settings_.batch.global_batch_size * settings_.data.seq_length);
  result_.flops = 3 * flops_of_token * result_.tokens / layout_.ranks();
  result_.share_of_peak = result_.flops / time.step / device_.peak_flops;
}

}  // namespace

size_t Estimate::fullest() const {
  const auto most =
      std::max_element(memory.begin(), memory.end(),
                       [](const MemoryEstimate& a, const MemoryEstimate& b) { return a.total() < b.total(); });
  return static_cast<size_t>(most - memory.begin());
}

Estimator::Estimator(Settings settings, const Device& device, const kernels::Exec& exec)
    : settings_(std::move(settings)),
      experts_(settings_.network()),
      counted_(counted_costs(settings_.network(), settings_.data.seq_length)),
      device_(device),
      exec_(exec) {}

std::string Estimator::impossibility(const Candidate& candidate) const {
  const int64_t micro_batches = settings_.batch.global_batch_size / candidate.micro_batch_size / candidate.layout.data;
  try {
    planned_placements(settings_, experts_, candidate.layout.expert);
    ParallelSettings parallel = settings_.parallel;
    decide_reproducible(parallel, candidate.layout, experts_, micro_batches);
  } catch (const ConfigError& failure) {
    return failure.what();
  }
  return "";
}

const ModelProfile& Estimator::profile(const Candidate& candidate) {
  const std::pair<int64_t, int> key{candidate.micro_batch_size, candidate.layout.expert};
  const auto found = profiles_.find(key);
  if (found != profiles_.end()) return found->second;
  ProfileShape shape;
  shape.sequences = candidate.micro_batch_size;
  shape.seq_length = settings_.data.seq_length;
  shape.reset_at_documents = settings_.data.reset_at_documents;
  shape.placements = planned_placements(settings_, experts_, candidate.layout.expert);
  shape.dispatch = settings_.parallel.dispatch();
  shape.dispatch.reproducible = false;  // whose buffers are counted apart
  shape.dtype = settings_.precision.dtype();
  return profiles_.emplace(key, profile_model(settings_.network(), shape, exec_)).first->second;
}

Estimate Estimator::estimate(const Candidate& candidate) {
  return Builder(*this, counted_, profile(candidate), candidate).build();
}

std::pair<parallel::Schedule, parallel::Timeline> Estimator::timeline(const Estimate& estimate) {
  const Builder builder(*this, counted_, profile(estimate.candidate), estimate.candidate);
  parallel::Schedule schedule = builder.plan().schedule();
  parallel::Timeline timeline = parallel::simulate(schedule, builder.costs());
  return {std::move(schedule), std::move(timeline)};
}

}  // namespace cadre::launch
