#include "launch/verify/run_case.h"

#include <mutex>

#include "launch/trainer/trainer.h"
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
    if (parameter.segments.front().expert >= 0) continue;
    if (parameter.name.ends_with("router.weight")) return bucket;
    ++bucket;
  }
  return -1;
}

parallel::Mesh::Wrap wrap_for(Fault fault, const model::NetworkSettings& network) {
  const auto around = [](Axis where, Disturbance disturbance, int64_t bucket) -> parallel::Mesh::Wrap {
    return [=](Axis axis, std::unique_ptr<parallel::Communicator> inner) {
      return axis == where ? disturb_reductions(std::move(inner), disturbance, bucket) : std::move(inner);
    };
  };
  switch (fault) {
    case Fault::kSkippedReduction: return around(Axis::kData, Disturbance::kSkip, -1);
    case Fault::kSkippedExperts: return around(Axis::kExpertData, Disturbance::kSkip, -1);
    case Fault::kDoubledReduction: return around(Axis::kData, Disturbance::kDouble, 1);
    case Fault::kUnsynchronisedRouter: return around(Axis::kData, Disturbance::kSkip, bucket_of_first_router(network));
    case Fault::kNone:
    case Fault::kDroppedRouterLoss: return {};
  }
  return {};
}

// One rank.
class Rank {
 public:
  Rank(const VerifyCase& verify_case, const RunCase& run, parallel::Communicator& world)
      : case_(verify_case),
        run_(run),
        network_(network_of(verify_case, run, world)),
        context_{{threads_, kernels::best_isa()}, *allocator_, run.dtype},
        mesh_(world, run.layout, wrap_for(run.fault, verify_case.network)),
        shard_(mesh_, network_, {verify_case.max_dispatch_tokens}),
        state_(context_, network_, shard_, {}, verify_case.seed),
        trainer_(context_, state_, mesh_, options()) {}

  void step(CaseResult& result, std::mutex& mutex) {
    int64_t next = 0;
    const StepMetrics metrics = trainer_.step([&] { return verify_batch(case_, first() + next++); }, {}).metrics;
    const std::lock_guard lock(mutex);
    result.loss = metrics.loss;
    result.balance_loss = metrics.balance_loss;
    result.z_loss = metrics.z_loss;
    for (size_t i = 0; i < recorded_.size(); ++i) {
      result.routing[static_cast<size_t>(first()) + i] = std::move(recorded_[i]);
    }
    collect(result.gradients);
  }

 private:
  static model::NetworkSettings network_of(const VerifyCase& verify_case, const RunCase& run,
                                           const parallel::Communicator& world) {
    model::NetworkSettings network = verify_case.network;
    if (run.fault == Fault::kDroppedRouterLoss && world.size() > 1 && world.rank() + 1 == world.size()) {
      network.moe.balance.aux_loss_coef = 0;
    }
    return network;
  }

  int64_t first() const { return case_.micro_batches / run_.layout.data * mesh_.here().data; }

  TrainerOptions options() {
    TrainerOptions options;
    options.total_steps = 1;
    options.micro_batches = case_.micro_batches / run_.layout.data;
    options.global_target_tokens = static_cast<double>(case_.global_tokens());
    options.bucket_bytes = kBucketBytes;
    options.reset_at_documents = case_.reset_at_documents;
    if (run_.replay != nullptr) {
      options.routing.replay = [this](int64_t micro_batch) { return trace_of(micro_batch); };
    }
    options.routing.record = [this](int64_t, const std::vector<model::RoutingResult>& routing) { record(routing); };
    return options;
  }

  const model::RoutingTrace* trace_of(int64_t micro_batch) {
    trace_.clear();
    const int64_t k = case_.network.moe.top_k;
    for (const std::vector<int32_t>& ids : (*run_.replay)[static_cast<size_t>(first() + micro_batch)]) {
      trace_.push_back(to_tensor(context_, ids).reshape(Shape{static_cast<int64_t>(ids.size()) / k, k}));
    }
    return &trace_;
  }

  void record(const std::vector<model::RoutingResult>& routing) {
    std::vector<std::vector<int32_t>> layers;
    for (const model::RoutingResult& layer : routing) {
      const int32_t* ids = layer.ids.data<int32_t>();
      layers.emplace_back(ids, ids + layer.ids.elements());
    }
    recorded_.push_back(std::move(layers));
  }

  void collect(std::map<std::string, std::vector<double>>& gradients) {
    const Tensor& flat = state_.store().gradients();
    for (const optim::SegmentState& segment : state_.optimizer().segments()) {
      if (!shard_.place_of(segment.expert).first()) continue;
      std::vector<double>& values = gradients[segment.name];
      for (int64_t i = segment.offset; i < segment.offset + segment.count(); ++i) {
        values.push_back(flat.dtype() == Dtype::kF64 ? flat.data<double>()[i]
                                                     : static_cast<double>(flat.data<float>()[i]));
      }
    }
  }

  const VerifyCase& case_;
  const RunCase& run_;
  model::NetworkSettings network_;
  ThreadPool threads_{1};
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  autograd::Context context_;
  parallel::Mesh mesh_;
  ModelShard shard_;
  TrainState state_;
  Trainer trainer_;
  model::RoutingTrace trace_;
  RecordedRouting recorded_;
};

}  // namespace

CaseResult run_case(const VerifyCase& verify_case, const RunCase& run) {
  CaseResult result;
  result.routing.resize(static_cast<size_t>(verify_case.micro_batches));
  std::mutex mutex;
  parallel::ThreadWorld(run.layout.ranks()).run([&](parallel::Communicator& world) {
    Rank(verify_case, run, world).step(result, mutex);
  });
  return result;
}

}  // namespace cadre::launch
