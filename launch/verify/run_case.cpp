#include "launch/verify/run_case.h"

#include <algorithm>
#include <map>

#include "launch/trainer/local_rank.h"
#include "launch/trainer/reproducible.h"
#include "launch/trainer/stages.h"
#include "parallel/comm/thread.h"

namespace cadre::launch {
namespace {

using parallel::Axis;

// A small bucket for each parameter: many reductions under way, in the order of the backward.
constexpr int64_t kBucketBytes = 1;

int64_t bucket_of_first_router(const model::NetworkSettings& network) {
  autograd::ParameterStore store;
  const model::Transformer whole(store, network);
  int64_t bucket = 0;
  for (size_t i = store.parameters().size(); i-- > 0;) {
    const autograd::Parameter& parameter = *store.parameters()[i];
    const int expert = parameter.segments.front().expert;
    const bool placed = expert >= 0 && expert < whole.experts().layer(model::layer_of(parameter.name)).computing();
    if (placed) continue;
    if (parameter.name.ends_with("router.weight")) return bucket;
    ++bucket;
  }
  return -1;
}

// Experts with replicas within a group are reduced along data, others along expert_data.
parallel::Mesh::Wrap wrap_for(Fault fault, const model::NetworkSettings& network) {
  const auto around = [](std::vector<Axis> where, Disturbance disturbance, const char* label,
                         int64_t bucket = -1) -> parallel::Mesh::Wrap {
    return [=](Axis axis, std::unique_ptr<parallel::Communicator> inner) {
      const bool reduces = std::find(where.begin(), where.end(), axis) != where.end();
      return reduces ? disturb_reductions(std::move(inner), disturbance, label, bucket) : std::move(inner);
    };
  };
  const auto skip = Disturbance::kSkip;
  switch (fault) {
    case Fault::kSkippedReduction: return around({Axis::kData}, skip, "gradients");
    case Fault::kSkippedExperts: return around({Axis::kData, Axis::kExpertData}, skip, "expert gradients");
    case Fault::kDoubledReduction: return around({Axis::kData}, Disturbance::kDouble, "gradients", 1);
    case Fault::kUnsynchronisedRouter: return around({Axis::kData}, skip, "gradients", bucket_of_first_router(network));
    case Fault::kUnsummedEmbedding: return around({Axis::kEmbedding}, skip, "gradients");
    case Fault::kNone:
    case Fault::kDroppedRouterLoss:
    case Fault::kDroppedStageLoss: return {};
  }
  return {};
}

// Decided for each layout, as in training.
bool is_reproducible(const VerifyCase& verify_case, const RunCase& run) {
  const parallel::Layout& layout = run.variant.layout;
  ParallelSettings parallel;
  parallel.reproducible = verify_case.reproducible;
  parallel.zero = run.zero;
  if (verify_case.dispatch.max_rows > 0) parallel.max_dispatch_tokens = verify_case.dispatch.max_rows;
  for (const parallel::Placement& placement : run.placements) {
    if (placement.has_replicas()) return false;
  }
  if (parallel.reproducible.is_auto()) {
    decide_reproducible(parallel, layout, model::ExpertLayout(verify_case.network),
                        verify_case.micro_batches / layout.data);
  }
  return *parallel.reproducible.value;
}

ShardOptions shard_options(const VerifyCase& verify_case, const RunCase& run) {
  const Variant& variant = run.variant;
  ParallelSettings parallel;
  parallel.pipeline_parallel = variant.layout.pipeline;
  parallel.stages_per_rank = variant.stages_per_rank;
  parallel::DispatchOptions dispatch = verify_case.dispatch;
  dispatch.reproducible = is_reproducible(verify_case, run);
  return {decide_stages(parallel, counted_costs(verify_case.network, verify_case.seq_length)), dispatch, run.zero,
          run.placements};
}

// What a rank trains, which may be wrong on purpose.
model::NetworkSettings network_for(const VerifyCase& verify_case, const RunCase& run, int rank) {
  model::NetworkSettings network = verify_case.network;
  const parallel::Layout& layout = run.variant.layout;
  const bool last_stage = parallel::coordinates_of(layout, rank).stage + 1 == layout.pipeline;
  const bool drops = (run.fault == Fault::kDroppedRouterLoss && layout.ranks() > 1 && rank + 1 == layout.ranks()) ||
                     (run.fault == Fault::kDroppedStageLoss && layout.pipeline > 1 && last_stage);
  if (drops) network.moe.balance.aux_loss_coef = 0.0;
  return network;
}

// One rank.
class Rank {
 public:
  Rank(const VerifyCase& verify_case, const RunCase& run, parallel::Communicator& world)
      : case_(verify_case),
        run_(run),
        world_(parallel::make_metered_communicator(world, traffic_)),
        rank_(*world_, options(world.rank())) {}

  CaseResult step() {
    int64_t next = 0;
    const StepMetrics metrics = rank_.trainer().step([&] { return verify_batch(case_, first() + next++); }, {}).metrics;
    CaseResult result{metrics.loss, metrics.balance_loss, metrics.z_loss, {}, {}};
    result.memory = rank_.context().allocator.stats();
    result.traffic = traffic_;
    share_gradients(result);
    share_routing(result);
    return result;
  }

 private:
  const model::ExpertLayout& experts() { return rank_.state().model().experts(); }

  int64_t first() { return case_.micro_batches / run_.variant.layout.data * rank_.mesh().here().data; }

  LocalRankOptions options(int rank) {
    LocalRankOptions options;
    options.layout = run_.variant.layout;
    options.wrap = wrap_for(run_.fault, case_.network);
    options.dtype = run_.dtype;
    TrainingOptions& training = options.training;
    training.network = network_for(case_, run_, rank);
    training.shard = shard_options(case_, run_);
    training.seed = case_.seed;
    training.trainer = trainer_options();
    return options;
  }

  TrainerOptions trainer_options() {
    TrainerOptions options;
    options.total_steps = 1;
    options.step.micro_batches = case_.micro_batches / run_.variant.layout.data;
    options.step.global_target_tokens = static_cast<double>(case_.global_tokens());
    options.gradients.bucket_bytes = kBucketBytes;
    options.gradients.reproducible = is_reproducible(case_, run_);
    options.step.reset_at_documents = case_.reset_at_documents;
    if (run_.replay != nullptr) {
      options.step.routing.replay = [this](int64_t micro_batch) { return trace_of(micro_batch); };
    }
    options.step.routing.record = [this](int64_t micro_batch, const std::vector<model::RoutingResult>& routing) {
      record(micro_batch, routing);
    };
    options.schedule.kind = run_.variant.schedule;
    options.schedule.chunks = run_.variant.stages_per_rank;
    return options;
  }

  const model::RoutingTrace* trace_of(int64_t micro_batch) {
    trace_.clear();
    const auto& recorded = (*run_.replay)[static_cast<size_t>(first() + micro_batch)];
    for (size_t i = 0; i < recorded.size(); ++i) {
      const std::vector<int32_t>& ids = recorded[i];
      const int64_t k = experts().layer(experts().moe_layers()[i]).places;
      trace_.push_back(to_tensor(rank_.context(), ids).reshape(Shape{static_cast<int64_t>(ids.size()) / k, k}));
    }
    return &trace_;
  }

  void record(int64_t micro_batch, const std::vector<model::RoutingResult>& routing) {
    for (const model::RoutingResult& layer : routing) {
      const int32_t* ids = layer.ids.data<int32_t>();
      recorded_[{micro_batch, static_cast<int64_t>(experts().moe_index(layer.layer))}].assign(
          ids, ids + layer.ids.elements());
    }
  }

  // What is not this rank's to tell is zero, so a sum over all ranks is the whole.
  void sum_over_ranks(const Tensor& values) {
    rank_.mesh().world().all_reduce(values, parallel::Reduction::kSum, {"verify"})->wait();
  }

  void share_gradients(CaseResult& result) {
    std::map<std::string, int64_t> offsets;
    int64_t elements = 0;
    for (const GlobalSegment& segment : rank_.shard().segments()) {
      offsets[segment.name] = elements;
      elements += segment.elements;
    }
    const Tensor all = Tensor::zeros(rank_.context().allocator, Dtype::kF64, Shape{elements});
    const optim::Optimizer& optimizer = rank_.state().optimizer();
    const Tensor& flat = optimizer.gradients();
    for (const optim::SegmentState& segment : optimizer.segments()) {
      double* const out = all.data<double>() + offsets.at(segment.name);
      const int64_t first = optimizer.gradient_offset(segment) - segment.kept.begin;
      for (int64_t i = segment.owned.begin; i < segment.owned.end; ++i) {
        const int64_t at = first + i;
        out[i] = flat.dtype() == Dtype::kF64 ? flat.data<double>()[at] : static_cast<double>(flat.data<float>()[at]);
      }
    }
    sum_over_ranks(all);
    for (const GlobalSegment& segment : rank_.shard().segments()) {
      const double* const begin = all.data<double>() + offsets.at(segment.name);
      result.gradients[segment.name].assign(begin, begin + segment.elements);
    }
  }

  void share_routing(CaseResult& result) {
    const size_t layers = experts().moe_layers().size();
    std::vector<int64_t> begins{0};  // of a layer's ids among those of a micro-batch
    for (const int64_t layer : experts().moe_layers()) {
      begins.push_back(begins.back() + case_.micro_batch_size * case_.seq_length * experts().layer(layer).places);
    }
    const Tensor ids =
        Tensor::zeros(rank_.context().allocator, Dtype::kI32, Shape{case_.micro_batches * begins.back()});
    const auto place = [&](int64_t micro_batch, int64_t layer) {
      return ids.data<int32_t>() + micro_batch * begins.back() + begins[static_cast<size_t>(layer)];
    };
    for (const auto& [at, recorded] : recorded_) {
      std::copy(recorded.begin(), recorded.end(), place(first() + at.first, at.second));
    }
    sum_over_ranks(ids);
    result.routing.assign(static_cast<size_t>(case_.micro_batches), std::vector<std::vector<int32_t>>(layers));
    for (size_t m = 0; m < result.routing.size(); ++m) {
      for (size_t layer = 0; layer < layers; ++layer) {
        const int32_t* const begin = place(static_cast<int64_t>(m), static_cast<int64_t>(layer));
        result.routing[m][layer].assign(begin, begin + begins[layer + 1] - begins[layer]);
      }
    }
  }

  const VerifyCase& case_;
  const RunCase& run_;
  parallel::Traffic traffic_;
  std::unique_ptr<parallel::Communicator> world_;
  LocalRank rank_;
  model::RoutingTrace trace_;
  std::map<std::pair<int64_t, int64_t>, std::vector<int32_t>> recorded_;  // by micro-batch and MoE layer
};

}  // namespace

CaseResult run_case_on(parallel::Communicator& world, const VerifyCase& verify_case, const RunCase& run) {
  return Rank(verify_case, run, world).step();
}

CaseResult run_case(const VerifyCase& verify_case, const RunCase& run) {
  CaseResult result;
  parallel::ThreadWorld(run.variant.layout.ranks()).run([&](parallel::Communicator& world) {
    CaseResult mine = run_case_on(world, verify_case, run);
    if (world.rank() == 0) result = std::move(mine);
  });
  return result;
}

}  // namespace cadre::launch
