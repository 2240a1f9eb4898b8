#include "launch/trainer/resolve.h"

#include <fmt/core.h>

#include <sstream>

#include "core/error.h"
#include "core/io/file.h"
#include "core/io/hash.h"
#include "data/indexed/token_dataset.h"
#include "launch/plan/search.h"
#include "launch/trainer/reproducible.h"
#include "launch/trainer/stages.h"
#include "model/expert_layout.h"
#include "parallel/comm/agreement.h"

namespace cadre::launch {
namespace {

void open_data(ResolvedRun& run) {
  const Settings& settings = run.settings;
  if (settings.data.train.empty())
    throw ConfigError("data.train: is empty; name at least one token file (cadre data prepare makes them)");
  run.tokenizer = data::make_tokenizer(settings.data.tokenizer);
  std::vector<data::Sampler::Source> sources;
  for (const data::SourceSettings& source : settings.data.train) {
    sources.push_back({data::open_token_dataset(source.path), source.weight});
    data::check_made_by(source.path, *run.tokenizer, "data.tokenizer");
  }
  const int64_t vocabulary = settings.model.vocab_size.value_or(run.tokenizer->vocab_size());
  if (vocabulary < run.tokenizer->vocab_size()) {
    throw ConfigError(fmt::format("model.vocab_size: {} is less than the tokenizer's {}; use auto, or at least that",
                                  vocabulary, run.tokenizer->vocab_size()));
  }
  run.settings.model.vocab_size = vocabulary;
  data::Sampler::Options options;
  options.seed = settings.run.seed;
  options.seq_length = settings.data.seq_length;
  options.vocab_size = static_cast<int32_t>(vocabulary);
  options.reset_at_documents = settings.data.reset_at_documents;
  run.sampler = std::make_shared<data::Sampler>(std::move(sources), options);
}

void open_held_out(ResolvedRun& run, int rank, int ranks) {
  const data::DataSettings& data = run.settings.data;
  if (data.validation.empty()) return;
  std::vector<std::string> paths;
  for (const data::HeldOutSettings& file : data.validation) paths.push_back(file.path);
  data::HeldOut::Options options;
  options.seq_length = data.seq_length;
  options.vocab_size = static_cast<int32_t>(*run.settings.model.vocab_size.value);
  options.reset_at_documents = data.reset_at_documents;
  options.tokens = run.settings.validation.tokens;
  run.held_out = std::make_unique<data::HeldOut>(paths, *run.tokenizer, "data.tokenizer", options);
  run.held_out_bytes = run.held_out->check(rank, ranks);
}

// What the metadata says counts invalid UTF-8 as it was.
void share_held_out_bytes(ResolvedRun& run, Session& session) {
  const Tensor bytes = Tensor::empty(session.allocator(), Dtype::kI64, Shape{1});
  *bytes.data<int64_t>() = static_cast<int64_t>(run.held_out_bytes);
  session.world().all_reduce(bytes, parallel::Reduction::kSum, {"held-out bytes"})->wait();
  const uint64_t of_source = run.held_out->source_bytes();
  run.held_out_bytes = of_source > 0 ? of_source : static_cast<uint64_t>(*bytes.data<int64_t>());
}

// Of a rank, where that is least: what is decided by it must come out alike everywhere.
double least_memory(Session& session) {
  const Tensor bytes = Tensor::empty(session.allocator(), Dtype::kF64, Shape{1});
  *bytes.data<double>() = machine_memory_bytes() / session.ranks_of_host();
  session.world().all_reduce(bytes, parallel::Reduction::kMin, {"memory"})->wait();
  return *bytes.data<double>();
}

// With parallel.stage_costs: measured, what rank 0 finds. Collective.
LayerCosts stage_costs(Session& session, const Settings& settings) {
  const ParallelSettings& parallel = settings.parallel;
  LayerCosts costs = counted_costs(settings.network(), settings.data.seq_length);
  const bool one_stage = *parallel.pipeline_parallel.value * parallel.stages_per_rank == 1;
  if (parallel.stage_costs == StageCosts::kCounted || !parallel.layers_per_stage.is_auto() || one_stage) return costs;
  const auto layers = static_cast<int64_t>(costs.layers.size());
  const Tensor seconds = Tensor::zeros(session.allocator(), Dtype::kF64, Shape{2 * (layers + 2)});
  const auto visit = [&](const auto& visitor) {
    double* at = seconds.data<double>();
    for (parallel::LayerCost& layer : costs.layers) at = visitor(layer, at);
    visitor(costs.last, visitor(costs.first, at));
  };
  if (session.rank() == 0) {
    costs = measured_costs(settings, session.context().exec);
    visit([](parallel::LayerCost& cost, double* at) {
      at[0] = cost.forward, at[1] = cost.backward;
      return at + 2;
    });
  }
  session.world().broadcast(seconds, 0, {"stage costs"})->wait();
  visit([](parallel::LayerCost& cost, double* at) {
    cost = {at[0], at[1]};
    return at + 2;
  });
  return costs;
}

void resolve_layout(ResolvedRun& run, const LayerCosts& costs, int rank, int ranks) {
  ParallelSettings& parallel = run.settings.parallel;
  parallel::LayoutRequest request;
  if (!parallel.data_parallel.is_auto()) request.data = static_cast<int>(*parallel.data_parallel.value);
  request.pipeline = static_cast<int>(*parallel.pipeline_parallel.value);
  request.expert = static_cast<int>(*parallel.expert_parallel.value);
  run.layout = parallel::resolve_layout(request, ranks);
  parallel.data_parallel = run.layout.data;
  parallel.layers_per_stage = decide_stages(parallel, costs);
  const model::ExpertLayout experts(run.settings.network());
  if (run.layout.expert > 1 && experts.moe_layers().empty()) {
    throw ConfigError(fmt::format("parallel.expert_parallel: {} ranks for the experts of a dense model; wanted 1",
                                  run.layout.expert));
  }
  run.plan = {run.settings.batch.global_batch_size, *run.settings.batch.micro_batch_size.value,
              parallel::coordinates_of(run.layout, rank).data, run.layout.data};
  run.plan.check();
  decide_reproducible(parallel, run.layout, experts, run.plan.micro_batches());
}

// Where experts are is no part of what they are.
void forget_placement(std::vector<model::ExpertGroupSettings>& groups) {
  for (model::ExpertGroupSettings& group : groups) group.placement = model::ExpertGroupSettings{}.placement;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

std::string identity_of(const Settings& settings) {
  Settings plain;
  plain.model = settings.model;
  plain.moe = settings.moe;
  plain.precision = settings.precision;
  plain.optimizer.kind = settings.optimizer.kind;
  plain.batch.global_batch_size = settings.batch.global_batch_size;
  plain.batch.micro_batch_size = settings.batch.global_batch_size;
  plain.run.seed = settings.run.seed;
  plain.data.tokenizer = settings.data.tokenizer;
  plain.data.tokenizer.path.reset();
  plain.data.seq_length = settings.data.seq_length;
  plain.data.reset_at_documents = settings.data.reset_at_documents;
  // What may change between runs of one model.
  plain.moe.balance = model::BalanceSettings();
  plain.moe.capacity_factor.reset();
  plain.moe.drop_policy = {};
  plain.moe.rules.clear();
  plain.moe.isolation.reset();
  plain.moe.events.clear();
  plain.moe.edited_layers.clear();  // of a checkpoint, taken over
  plain.moe.train_only.reset();
  forget_placement(plain.moe.groups);
  for (model::ExpertLayerSettings& layer : plain.moe.layers) {
    if (layer.groups) forget_placement(*layer.groups);
  }
  plain.moe.router.allow_future_tokens = false;
  plain.model.init_std = 0.02;
  return config::print_resolved(plain);
}

void check_same_model(const Settings& settings, const Settings& saved, const std::string& checkpoint) {
  const std::vector<std::string> now = lines_of(identity_of(settings)), then = lines_of(identity_of(saved));
  std::string section;
  for (size_t i = 0; i < std::min(now.size(), then.size()); ++i) {
    if (!now[i].empty() && now[i][0] != ' ') section = now[i].substr(0, now[i].find(':'));
    if (now[i] == then[i]) continue;
    const auto trimmed = [](const std::string& line) {
      return line.substr(std::min(line.size(), line.find_first_not_of(' ')));
    };
    throw CheckpointError(
        fmt::format("{}: was made with `{}: {}`, the config has `{}: {}`; resume with the same, or start anew in "
                    "another run.directory",
                    checkpoint, section, trimmed(then[i]), section, trimmed(now[i])));
  }
}

ResolvedRun resolve_run(Session& session, const Settings& settings) {
  ResolvedRun run;
  run.settings = settings;
  parallel::Communicator& world = session.world();
  const double memory = least_memory(session);
  parallel::all_ok_after(world, [&] {
    open_data(run);
    decide_layout(run.settings, world.size(), memory, session.context().exec);
  });
  const LayerCosts costs = stage_costs(session, run.settings);
  parallel::all_ok_after(world, [&] {
    resolve_layout(run, costs, world.rank(), world.size());
    open_held_out(run, world.rank(), world.size());
  });
  const std::string text = config::print_resolved(run.settings);
  parallel::agree_on(world, xxh3_128(bytes_of(text)), "the config's hash");
  const std::string held_out = run.held_out ? run.held_out->fingerprint() : "";
  parallel::agree_on(world, run.sampler->fingerprint() + run.tokenizer->fingerprint() + held_out,
                     "the fingerprint of tokenizer and token files", ExitCode::kData);
  if (run.held_out) share_held_out_bytes(run, session);
  run.settings.device.threads = session.threads();  // may differ between nodes, and changes no bit
  return run;
}

}  // namespace cadre::launch
