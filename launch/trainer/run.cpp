#include "launch/trainer/run.h"

#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/file.h"
#include "core/io/hash.h"
#include "launch/checkpoint/directory.h"
#include "launch/checkpoint/reader.h"
#include "launch/experts/edited_source.h"
#include "launch/experts/events.h"
#include "launch/experts/norms.h"
#include "launch/inference/evaluate.h"
#include "launch/monitor/energy.h"
#include "launch/monitor/monitor.h"
#include "launch/signals.h"
#include "launch/trainer/expert_balance.h"
#include "launch/trainer/move_state.h"
#include "launch/trainer/reproducible.h"
#include "launch/trainer/resolve.h"
#include "launch/trainer/stored_config.h"
#include "launch/trainer/time_limit.h"
#include "launch/trainer/training.h"
#include "parallel/comm/agreement.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

constexpr const char* kScratch = "checkpoints.edit";  // of an event, while it happens

// One run on one rank, from its parts to its last checkpoint.
class Run {
 public:
  Run(Session& session, const RunRequest& request);
  RunEnd loop();

 private:
  void finish();
  void validate(StepOutcome& outcome);
  void prepare_directory();
  void set_earlier_run_aside();
  void check_same_tokenizer(CheckpointReader& reader);
  void resume(const ResumeRequest& request);
  TrainerOptions trainer_options();
  std::unique_ptr<Training> make_training();
  void move_experts();
  void adopt_edits(const model::MoeSettings& stored, const std::string& checkpoint);
  ExpertFacts facts_for(const model::ExpertOperationSettings& operation);
  void run_events(const StepMetrics& metrics);
  ExpertEdit plan_event(size_t index, const StepFacts& step);
  fs::path save_for_edit();
  void edit(const ExpertEdit& edit, const fs::path& saved);
  void take_over_experts();
  std::string obstacle_to_reproducible(const Settings& settings) const;
  void check_edited(const Settings& after) const;
  void write_config();
  TrainState& state() { return training_->state; }
  CheckpointHeader header();
  std::vector<StateEntry> entries();
  void begin_save();
  void finish_save();
  void prune_checkpoints();
  template <class Save>
  void tolerate(Save&& save);
  void start_observers();

  Session& session_;
  TimeLimit time_limit_;
  ResolvedRun run_;
  parallel::Mesh mesh_;
  ExpertBalance balance_;
  const bool reproducible_is_auto_;
  ExpertEvents events_;
  double validation_loss_ = std::numeric_limits<double>::infinity();  // the last one
  std::optional<EnergyReader> energy_;                                // of the first rank of each host
  std::unique_ptr<Training> training_;
  Tensor tokenizer_bytes_;
  fs::path directory_;
  std::string run_id_;
  CheckpointWriter writer_;
  int64_t saved_step_ = 0;  // of the newest checkpoint of this run that is known to be whole; -1: none
  std::vector<std::unique_ptr<Observer>> observers_;
};

fs::path checkpoint_directory(const Settings& settings) { return fs::path(settings.run.directory) / "checkpoints"; }

Run::Run(Session& session, const RunRequest& request)
    : session_(session),
      time_limit_(request.settings.run.time_limit_seconds),
      run_(resolve_run(session, request.settings)),
      mesh_(session.world(), run_.layout),
      balance_(run_.settings.parallel.placement, run_.settings.network(), run_.layout.expert),
      reproducible_is_auto_(request.settings.parallel.reproducible.is_auto()),
      events_(run_.settings.moe.events, model::ExpertLayout(run_.settings.network())),
      directory_(run_.settings.run.directory),
      run_id_(xxh3_128(bytes_of(config::print_resolved(run_.settings))).substr(0, 16)),
      writer_({checkpoint_directory(run_.settings), static_cast<uint64_t>(run_.settings.checkpoint.shard_mib) << 20,
               request.hooks},
              session.world(), session.allocator()) {
  const std::string tokenizer = run_.tokenizer->serialize();
  tokenizer_bytes_ = Tensor::empty(session.allocator(), Dtype::kU8, Shape{static_cast<int64_t>(tokenizer.size())});
  std::copy(tokenizer.begin(), tokenizer.end(), tokenizer_bytes_.data<uint8_t>());
  if (session.first_of_host()) energy_.emplace();
  resume(request.resume);
  prepare_directory();
  start_observers();
}

void Run::prepare_directory() {
  parallel::all_ok_after(session_.world(), [&] {
    if (session_.rank() != 0) return;
    create_directories_durably(directory_);
    write_config();
  });
  session_.publish_progress(directory_);
  const std::string suffix = session_.rank() == 0 ? "" : fmt::format(".rank{}", session_.rank());
  session_.logger().open_file((directory_ / ("log" + suffix + ".txt")).string());
  session_.tell_places();
}

void Run::write_config() {
  atomic_write(directory_ / "config.resolved.yaml", bytes_of(config::print_resolved(run_.settings)));
}

// A fresh start leaves an earlier run's checkpoints whole, but out of the way: `auto` takes the highest step it finds.
void Run::set_earlier_run_aside() {
  if (session_.rank() != 0 || list_steps(checkpoint_directory(run_.settings)).empty()) return;
  const fs::path now = checkpoint_directory(run_.settings);
  int number = 0;
  fs::path aside;
  do aside = now.string() + ".old-" + std::to_string(number++);
  while (fs::exists(aside));
  rename_durably(now, aside);
  session_.logger().warning("moved the checkpoints of an earlier run to " + aside.string());
}

void Run::check_same_tokenizer(CheckpointReader& reader) {
  const std::string where = reader.directory().string();
  const Tensor saved = Tensor::empty(session_.allocator(), Dtype::kU8, reader.tensor("/tokenizer").shape);
  reader.read("/tokenizer", saved);
  const bool same =
      saved.bytes() == tokenizer_bytes_.bytes() && std::memcmp(saved.raw(), tokenizer_bytes_.raw(), saved.bytes()) == 0;
  if (!same)
    throw CheckpointError(where + ": was trained with another tokenizer than data.tokenizer; resume with the same");
}

void Run::resume(const ResumeRequest& request) {
  if (request.policy == ResumePolicy::kNever) {
    parallel::all_ok_after(session_.world(), [&] { set_earlier_run_aside(); });
  }
  const ResumeChoice choice = choose_checkpoint(checkpoint_directory(run_.settings), request, session_.world());
  for (const std::string& skipped : choice.skipped) {
    if (session_.rank() == 0) session_.logger().warning(skipped);
  }
  if (!choice.checkpoint) {
    training_ = make_training();
    return;
  }
  std::unique_ptr<CheckpointReader> reader;
  parallel::all_ok_after(session_.world(), [&] {
    reader = std::make_unique<CheckpointReader>(*choice.checkpoint);
    const std::string name = choice.checkpoint->string();
    const StoredConfig stored = read_stored_config(name, reader->manifest().header.state.value("config", ""));
    if (session_.rank() == 0 && !stored.unknown.empty()) session_.logger().warning(stored.warning(name));
    check_same_model(run_.settings, stored.settings, name);
    check_same_tokenizer(*reader);
    adopt_edits(stored.settings.moe, name);
    const nlohmann::json& scalars = reader->scalars();
    events_.restore(scalars.value("events", nlohmann::json::object()));
    validation_loss_ = scalars.value("validation_loss", validation_loss_);
    balance_.restore(reader->manifest().header.state.value("placement", nlohmann::json::object()));
  });
  training_ = make_training();
  size_t anew = 0;
  parallel::all_ok_after(session_.world(), [&] { anew = state().restore(*reader); });
  if (anew > 0) {
    session_.logger().info(
        fmt::format("moments of {} experts begin anew: they had another optimizer in the checkpoint", anew));
  }
  std::error_code ignored;
  const bool ours = fs::equivalent(choice.checkpoint->parent_path(), checkpoint_directory(run_.settings), ignored);
  saved_step_ = ours ? state().step : -1;
  session_.logger().info(fmt::format("resumed from {} at step {}", choice.checkpoint->string(), state().step));
}

// What experts a state has, it says itself; where they are says the config.
void Run::adopt_edits(const model::MoeSettings& stored, const std::string& checkpoint) {
  model::MoeSettings& moe = run_.settings.moe;
  model::NetworkSettings own = run_.settings.network();
  if (moe.edited_layers.empty() && stored.edited_layers.empty()) return;
  moe.edited_layers = stored.edited_layers;
  const model::ExpertLayout wanted(own);
  for (model::EditedLayerSettings& layer : moe.edited_layers) {
    for (model::EditedGroupSettings& group : layer.groups) {
      for (const model::ExpertSet& set : wanted.layer(layer.layer).routed) {
        if (set.name == group.name) group.placement = set.placement;
      }
    }
  }
  check_edited(run_.settings);
  take_over_experts();
  if (session_.rank() == 0)
    session_.logger().info(fmt::format("experts of {} layers are those of {}", moe.edited_layers.size(), checkpoint));
}

std::unique_ptr<Training> Run::make_training() {
  const Settings& s = run_.settings;
  const ShardOptions shard{*s.parallel.layers_per_stage.value, s.parallel.dispatch(), static_cast<int>(s.parallel.zero),
                           balance_.placements()};
  return std::make_unique<Training>(session_.context(), mesh_,
                                    TrainingOptions{s.network(), shard, s.optimizer, s.run.seed, trainer_options()});
}

// Both states are there while one becomes the other.
void Run::move_experts() {
  const std::optional<ExpertBalance::Change> change = balance_.change(state().step);
  if (!change) return;
  std::unique_ptr<Training> next = make_training();
  move_state(state(), next->state);
  training_ = std::move(next);
  session_.logger().info(fmt::format(
      "step {}: experts moved; the fullest rank had {:.2f} times the mean load in the worst layer, now {:.2f}",
      state().step, change->before, change->after));
}

std::string Run::obstacle_to_reproducible(const Settings& settings) const {
  if (!settings.parallel.reproducible.value_or(false)) return "";
  return reproducible_obstacle(settings.parallel, run_.layout, model::ExpertLayout(settings.network()),
                               run_.plan.micro_batches());
}

// Throws ConfigError when the run cannot go on with experts like these.
void Run::check_edited(const Settings& after) const {
  config::Problems problems;
  config::Schema<Settings>::check(after, problems);
  problems.raise();
  const std::string obstacle = obstacle_to_reproducible(after);
  if (!reproducible_is_auto_ && !obstacle.empty()) throw ConfigError("parallel.reproducible: " + obstacle);
  ExpertBalance(after.parallel.placement, after.network(), run_.layout.expert);
}

ExpertFacts Run::facts_for(const model::ExpertOperationSettings& operation) {
  ExpertFacts facts = facts_of(state().history());
  if (asks_for_norms(operation.where)) facts.norms = expert_norms(session_.context().exec, state(), mesh_);
  return facts;
}

// At the end of a step, before it is saved. What cannot be done is left out, on all ranks alike, for it is found before
// anything changes.
void Run::run_events(const StepMetrics& metrics) {
  const StepFacts step{metrics.step, run_.settings.run.steps, metrics.loss, validation_loss_};
  for (size_t i = 0; i < events_.size(); ++i) {
    const std::string what =
        fmt::format("step {}: moe.events[{}]: {}", metrics.step, i, config::enum_name(events_.event(i).kind));
    const auto left_out = [&](const std::exception& failure) {
      events_.fired(i);
      if (session_.rank() == 0) session_.logger().warning(fmt::format("{}: not done: {}", what, failure.what()));
    };
    ExpertEdit planned;
    fs::path saved;
    try {
      planned = plan_event(i, step);
      if (planned.empty()) continue;  // it is not due, or nobody was chosen
      saved = save_for_edit();
    } catch (const ConfigError& failure) {
      left_out(failure);
      continue;
    } catch (const CheckpointError& failure) {
      left_out(failure);
      continue;
    }
    edit(planned, saved);
    events_.fired(i);
    if (session_.rank() != 0) continue;
    for (const std::string& note : planned.notes) session_.logger().info(what + ": " + note);
  }
}

ExpertEdit Run::plan_event(size_t index, const StepFacts& step) {
  if (!events_.due(index, step)) return {};
  const model::ExpertEventSettings& event = events_.event(index);
  const ExpertFacts facts = facts_for(event);
  const std::vector<model::ExpertPlace> chosen =
      choose_experts(event, state().model().experts(), facts,
                     {{"step", static_cast<double>(step.step)}, {"steps", static_cast<double>(step.steps)}});
  ExpertEdit planned = plan_edit(run_.settings.network(), event, chosen, facts.loads);
  Settings after = run_.settings;
  planned.apply(after.moe);
  check_edited(after);
  return planned;
}

fs::path Run::save_for_edit() {
  CheckpointWriter writer({directory_ / kScratch, static_cast<uint64_t>(run_.settings.checkpoint.shard_mib) << 20, {}},
                          session_.world(), session_.allocator());
  return writer.save(header(), entries()).directory;
}

// By way of a checkpoint of its own, from which the state is read as the edit makes it; so it works from any layout to
// any layout.
void Run::edit(const ExpertEdit& edit, const fs::path& saved) {
  const model::ExpertLayout before(run_.settings.network());
  edit.apply(run_.settings.moe);
  take_over_experts();
  training_.reset();
  training_ = make_training();
  parallel::all_ok_after(session_.world(), [&] {
    CheckpointReader reader(saved);
    EditedSource source(reader, before, state().model().experts(), edit, run_.settings.run.seed);
    state().restore(source);
  });
  tolerate([&] {
    parallel::all_ok_after(session_.world(), [&] {
      if (session_.rank() != 0) return;
      std::error_code ignored;
      fs::remove_all(directory_ / kScratch, ignored);
      write_config();
    });
  });
}

// What follows from other experts than before.
void Run::take_over_experts() {
  if (reproducible_is_auto_ && !obstacle_to_reproducible(run_.settings).empty())
    run_.settings.parallel.reproducible = false;
  balance_ = ExpertBalance(run_.settings.parallel.placement, run_.settings.network(), run_.layout.expert);
}

TrainerOptions Run::trainer_options() {
  const Settings& s = run_.settings;
  TrainerOptions options;
  options.total_steps = s.run.steps;
  options.step.micro_batches = run_.plan.micro_batches();
  options.step.global_target_tokens = static_cast<double>(s.batch.global_batch_size) * s.data.seq_length;
  options.step.reset_at_documents = s.data.reset_at_documents;
  options.schedule.kind = s.parallel.schedule;
  options.schedule.chunks = static_cast<int>(s.parallel.stages_per_rank);
  options.gradients.bucket_bytes = static_cast<int64_t>(s.parallel.bucket_mib * 1024 * 1024);
  options.gradients.reproducible = s.parallel.reproducible.value_or(false);
  options.experts_every = s.monitor.experts_every;
  if (energy_) options.joules = [this] { return energy_->joules(); };
  return options;
}

CheckpointHeader Run::header() {
  CheckpointHeader header;
  header.run_id = run_id_;
  header.step = state().step;
  header.config_hash = xxh3_128(bytes_of(identity_of(run_.settings)));
  header.state = state().scalars();
  if (run_.settings.parallel.placement.kind == PlacementKind::kBalanced) header.state["placement"] = balance_.state();
  // Where a run writes, and when it pauses, is no part of what it computes.
  Settings saved = run_.settings;
  saved.run.directory = RunSettings{}.directory;
  saved.run.stop_after.reset();
  saved.run.time_limit_seconds.reset();
  header.state["config"] = config::print_resolved(saved);
  if (!events_.empty()) header.state["events"] = events_.state();
  if (events_.ask_for_validation() && std::isfinite(validation_loss_))
    header.state["validation_loss"] = validation_loss_;
  header.state["samples"] = state().step * run_.settings.batch.global_batch_size;
  return header;
}

std::vector<StateEntry> Run::entries() {
  std::vector<StateEntry> entries = state().entries_to_save();
  if (session_.rank() == 0) entries.push_back(whole_entry("/tokenizer", tokenizer_bytes_));
  return entries;
}

void Run::start_observers() {
  observers_ = make_observers(run_.settings.monitor, session_.logger(), session_.rank());
  RunInfo info;
  info.directory = directory_.string();
  info.rank = session_.rank();
  info.ranks = session_.ranks();
  info.first_step = state().step + 1;
  info.total_steps = run_.settings.run.steps;
  info.parameters = training_->shard.parameter_count();
  info.active_parameters = state().model().active_parameters();
  info.flops_per_token = state().model().training_flops_per_token(run_.settings.data.seq_length);
  info.num_experts = state().model().experts().most_experts();
  info.peak_flops = peak_flops(run_.settings.monitor, session_.context()) * session_.ranks();
  for (const auto& observer : observers_) observer->on_start(info);
}

void Run::begin_save() {
  writer_.begin(header(), entries());
  if (!run_.settings.checkpoint.background) finish_save();
}

void Run::finish_save() {
  const SaveReport report = writer_.publish();
  saved_step_ = report.step;
  for (const auto& observer : observers_) {
    observer->on_checkpoint(report.step, report.directory.string(), report.snapshot_seconds + report.publish_seconds);
  }
  if (session_.rank() == 0) prune_checkpoints();
}

// On rank 0 alone, so nothing may escape: the other ranks go on to the next collective.
void Run::prune_checkpoints() {
  const CheckpointSettings& settings = run_.settings.checkpoint;
  try {
    for (const std::string& problem : prune(checkpoint_directory(run_.settings),
                                            {static_cast<int>(settings.keep), settings.permanent_every}, saved_step_)) {
      session_.logger().warning(problem);
    }
  } catch (const std::exception& failure) {
    session_.logger().warning(fmt::format("old checkpoints not deleted: {}", failure.what()));
  }
}

// The previous checkpoint is intact; a full disk must not end a long run. The last save, in finish(), may.
template <class Save>
void Run::tolerate(Save&& save) {
  try {
    save();
  } catch (const CheckpointError& failure) {
    const LogLevel level = session_.rank() == 0 ? LogLevel::kError : LogLevel::kInfo;  // all ranks have the same error
    session_.logger().log(level, fmt::format("{}; training goes on", failure.what()));
  }
}

void Run::finish() {
  if (writer_.busy()) tolerate([&] { finish_save(); });
  if (state().step != saved_step_) {
    begin_save();
    if (writer_.busy()) finish_save();
  }
  for (const auto& observer : observers_) observer->on_finish();
}

// Adds the held-out loss to the metrics of a step that wants it. By the step alone, so that a resumed run evaluates at
// the same steps; but whoever asked for a stop waits for the checkpoint.
void Run::validate(StepOutcome& outcome) {
  const Settings& s = run_.settings;
  const int64_t every = s.validation.every;
  const bool due = state().step == s.run.steps || (every > 0 && state().step % every == 0);
  const bool in_a_hurry = outcome.votes.stop && !events_.ask_for_validation();
  if (!run_.held_out || !due || !outcome.finite || in_a_hurry) return;
  const auto start = std::chrono::steady_clock::now();
  const Evaluation result = evaluate(session_.context(), state().model(), *run_.held_out,
                                     {*s.batch.micro_batch_size.value, run_.held_out_bytes}, mesh_);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  validation_loss_ = result.loss;
  outcome.metrics.validation = {result.tokens, result.loss, result.perplexity, result.bits_per_byte, elapsed.count()};
}

RunEnd Run::loop() {
  const Settings& s = run_.settings;
  const int64_t last_step = std::min(s.run.steps, s.run.stop_after.value_or(s.run.steps));
  RunEnd end = s.run.steps <= last_step ? RunEnd::kFinished : RunEnd::kStopAfter;
  data::Loader loader(run_.sampler, run_.plan, state().step, s.data.prefetch);
  if (energy_) energy_->joules();  // what came before is no step's
  while (state().step < last_step) {
    time_limit_.step_begins();
    const bool stop = stop_requested() || time_limit_.last_step();
    StepOutcome outcome = training_->trainer.step([&] { return loader.next(); }, {stop, writer_.locally_done()});
    outcome.metrics.rank_imbalance = balance_.imbalance(outcome.metrics);
    validate(outcome);
    for (const auto& observer : observers_) observer->on_step(outcome.metrics);
    const bool due = s.checkpoint.every > 0 && state().step % s.checkpoint.every == 0 && state().step < last_step;
    if (writer_.busy() && (outcome.votes.checkpoint_written || due || !outcome.finite))
      tolerate([&] { finish_save(); });
    if (!outcome.finite) {
      throw DivergenceError(fmt::format(
          "step {}: {} is not finite; the newest checkpoint is intact; lower optimizer.lr or set optimizer.clip_norm",
          outcome.metrics.step, outcome.non_finite));
    }
    balance_.add(outcome.metrics);
    move_experts();
    run_events(outcome.metrics);
    if (due) tolerate([&] { begin_save(); });
    if (outcome.votes.stop && state().step < last_step) {
      end = RunEnd::kStopped;
      session_.logger().info(time_limit_.last_step() ? "run.time_limit_seconds is nearly over: saving, to be resumed"
                                                     : "asked to stop: saving, to be resumed");
      break;
    }
  }
  finish();
  return end;
}

}  // namespace

RunEnd train_run(Session& session, const RunRequest& request) {
  std::unique_ptr<Run> run;
  return session.together([&] {
    run = std::make_unique<Run>(session, request);
    return run->loop();
  });
}

}  // namespace cadre::launch
