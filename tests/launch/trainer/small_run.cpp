#include "tests/launch/trainer/small_run.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/writer.h"
#include "launch/trainer/stages.h"
#include "parallel/comm/thread.h"

namespace cadre::launch::testing {
namespace {

namespace fs = std::filesystem;

LocalRankOptions options_for(const VerifyCase& verify_case, const Variant& variant,
                             const optim::OptimizerSettings& optimizer) {
  ParallelSettings parallel;
  parallel.pipeline_parallel = variant.layout.pipeline;
  parallel.stages_per_rank = variant.stages_per_rank;
  LocalRankOptions options;
  options.layout = variant.layout;
  options.dtype = Dtype::kF64;
  options.training.network = verify_case.network;
  options.training.shard.layers_per_stage =
      decide_stages(parallel, counted_costs(verify_case.network, verify_case.seq_length));
  options.training.shard.dispatch = verify_case.dispatch;
  options.training.shard.zero = verify_case.zero;
  options.training.optimizer = optimizer;
  options.training.seed = verify_case.seed;
  options.training.trainer.total_steps = 10;
  options.training.trainer.schedule.kind = variant.schedule;
  options.training.trainer.schedule.chunks = variant.stages_per_rank;
  options.training.trainer.step.micro_batches = verify_case.micro_batches / variant.layout.data;
  options.training.trainer.step.global_target_tokens = static_cast<double>(verify_case.global_tokens());
  options.training.trainer.step.reset_at_documents = verify_case.reset_at_documents;
  return options;
}

void save(LocalRank& rank, const fs::path& root) {
  CheckpointHeader header;
  header.step = rank.state().step;
  header.state = rank.state().scalars();
  CheckpointWriter({root, 1 << 20, {}}, rank.mesh().world(), rank.context().allocator)
      .save(header, rank.state().entries_to_save());
}

std::vector<char> bytes_of_tensor(CheckpointReader& reader, const std::string& name, Allocator& allocator) {
  const ManifestTensor& known = reader.tensor(name);
  const Tensor tensor = Tensor::empty(allocator, known.dtype, known.shape);
  reader.read(name, tensor);
  const char* const begin = static_cast<const char*>(tensor.raw());
  return {begin, begin + tensor.bytes()};
}

}  // namespace

optim::OptimizerSettings SmallRun::with_rate(double lr) {
  optim::OptimizerSettings optimizer;
  optimizer.lr = lr;
  return optimizer;
}

StepMetrics carry_out(const VerifyCase& verify_case, const Variant& variant, const SmallRun& run) {
  StepMetrics result;
  parallel::ThreadWorld(variant.layout.ranks()).run([&](parallel::Communicator& world) {
    LocalRank rank(world, options_for(verify_case, variant, run.optimizer));
    if (!run.from.empty()) {
      CheckpointReader reader(run.from);
      rank.state().restore(reader);
    }
    if (!run.save_before.empty()) save(rank, run.save_before);
    StepMetrics metrics;
    for (int64_t i = 0; i < run.steps; ++i) {
      const int64_t each = verify_case.micro_batches / variant.layout.data;
      int64_t next = rank.state().step * verify_case.micro_batches + rank.mesh().here().data * each;
      metrics = rank.trainer().step([&] { return verify_batch(verify_case, next++); }, {}).metrics;
    }
    if (!run.save.empty()) save(rank, run.save);
    if (world.rank() == 0) result = metrics;
  });
  return result;
}

std::vector<std::string> differing_tensors(const fs::path& a, const fs::path& b) {
  CheckpointReader first(a), second(b);
  const std::shared_ptr<Allocator> allocator = make_host_allocator();
  std::set<std::string> names;
  for (const CheckpointReader* reader : {&first, &second}) {
    for (const auto& [name, tensor] : reader->manifest().tensors) names.insert(name);
  }
  std::vector<std::string> differ;
  for (const std::string& name : names) {
    const bool both = first.has(name) && second.has(name);
    if (both && bytes_of_tensor(first, name, *allocator) == bytes_of_tensor(second, name, *allocator)) continue;
    differ.push_back(name);
  }
  return differ;
}

}  // namespace cadre::launch::testing
