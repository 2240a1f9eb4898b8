#include "tests/launch/experts/surgery_fixture.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/config/config.h"
#include "core/rng.h"
#include "launch/checkpoint/writer.h"
#include "launch/settings.h"

namespace cadre::launch::testing {
namespace {

constexpr int64_t kSequences = 2, kLength = 16, kVocabulary = 40;

data::Batch batch_of(uint64_t index) {
  Rng rng(5, RngPurpose::kTest, index);
  data::Batch batch;
  batch.samples = kSequences;
  batch.seq_length = kLength;
  batch.target_tokens = kSequences * kLength;
  for (int64_t i = 0; i < batch.target_tokens; ++i) {
    batch.segment_start.push_back(0);
    batch.tokens.push_back(static_cast<int32_t>(rng.below(kVocabulary)));
    batch.targets.push_back(static_cast<int32_t>(rng.below(kVocabulary)));
  }
  return batch;
}

std::vector<double> values_of(const TensorView& view) {
  std::vector<double> values;
  for (int64_t row = 0; row < view.rows(); ++row) {
    const double* const begin = static_cast<const double*>(view.data) + row * view.row_stride;
    values.insert(values.end(), begin, begin + view.shape.cols());
  }
  return values;
}

}  // namespace

model::NetworkSettings small_network() {
  model::NetworkSettings network;
  network.model.hidden_size = 16;
  network.model.num_layers = 2;
  network.model.num_heads = 2;
  network.model.ffn_hidden_size = 24;
  network.model.vocab_size = kVocabulary;
  network.model.init_std = 0.2;
  network.moe.num_experts = 4;
  network.moe.top_k = 2;
  return network;
}

TrainedModel::TrainedModel(const model::NetworkSettings& network) : network_(network) {
  LocalRankOptions options;
  options.dtype = Dtype::kF64;
  options.training.network = network;
  options.training.optimizer.lr = 0.01;
  options.training.trainer.total_steps = 100;
  options.training.trainer.step.global_target_tokens = kSequences * kLength;
  rank_ = std::make_unique<LocalRank>(*world_, options);
}

void TrainedModel::train(int64_t steps) {
  for (int64_t i = 0; i < steps; ++i) {
    rank_->trainer().step([&] { return batch_of(static_cast<uint64_t>(state().step)); }, {});
  }
}

std::filesystem::path TrainedModel::save(const std::filesystem::path& root) {
  CheckpointHeader header;
  header.step = state().step;
  header.state = state().scalars();
  Settings settings;
  settings.model = network_.model;
  settings.moe = network_.moe;
  settings.precision.compute = ComputeType::kFp64;
  header.state["config"] = config::print_resolved(settings);
  CheckpointWriter writer({root, 1 << 20, {}}, rank_->mesh().world(), rank_->context().allocator);
  return writer.save(header, state().entries_to_save()).directory;
}

std::vector<double> TrainedModel::logits() {
  autograd::Tape tape(rank_->context());
  model::ForwardInputs inputs;
  inputs.options.training = false;
  const auto output = state().model().forward(tape, to_tokens(rank_->context(), batch_of(77), false), inputs);
  return values_of(output.logits.tensor());
}

std::vector<double> TrainedModel::tensor(const std::string& name) {
  std::vector<double> values;
  for (const StateEntry& entry : state().entries_to_save()) {
    if (entry.name != name) continue;
    const std::vector<double> part = values_of(entry.data);
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

std::unique_ptr<TrainedModel> edited(TrainedModel& from, const model::NetworkSettings& network,
                                     const ExpertEdit& edit) {
  const cadre::testing::TemporaryDirectory directory;
  CheckpointReader reader(from.save(directory.path()));
  model::NetworkSettings after = network;
  edit.apply(after.moe);
  auto run = std::make_unique<TrainedModel>(after);
  EditedSource source(reader, model::ExpertLayout(network), model::ExpertLayout(after), edit, 1);
  run->state().restore(source);
  return run;
}

ExpertEdit plan(const model::NetworkSettings& network, const model::ExpertOperationSettings& operation,
                const ExpertLoadTable& loads) {
  const model::ExpertLayout layout(network);
  ExpertLoadTable known = loads;
  for (size_t i = known.size(); i < layout.moe_layers().size(); ++i)
    known.emplace_back(static_cast<size_t>(layout.layer(layout.moe_layers()[i]).experts()), 1.0);
  return plan_edit(network, operation, model::ExpertSelector(operation.experts).find(layout), known);
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size() || a.empty()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace cadre::launch::testing
