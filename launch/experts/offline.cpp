#include "launch/experts/offline.h"

#include <fmt/core.h>

#include <cmath>

#include "core/config/config.h"
#include "core/config/messages.h"
#include "core/error.h"
#include "core/io/file.h"
#include "launch/checkpoint/directory.h"
#include "launch/checkpoint/resume.h"
#include "launch/checkpoint/writer.h"
#include "launch/experts/edited_source.h"
#include "launch/experts/expert_file.h"
#include "launch/trainer/expert_history.h"
#include "launch/trainer/stored_config.h"
#include "launch/trainer/train_state.h"
#include "parallel/comm/agreement.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

double square_of(CheckpointReader& reader, const std::string& name) {
  const ManifestTensor& tensor = reader.tensor(name);
  const std::shared_ptr<Allocator> allocator = make_host_allocator();
  const Tensor values = Tensor::empty(*allocator, tensor.dtype, tensor.shape);
  reader.read(name, values);
  double sum = 0;
  for (int64_t i = 0; i < values.elements(); ++i) {
    const double value = values.dtype() == Dtype::kF64 ? values.data<double>()[i] : values.data<float>()[i];
    sum += value * value;
  }
  return sum;
}

// All ranks share out data, and experts as far as those go round evenly.
parallel::Layout layout_for(int ranks, const model::ExpertLayout& experts) {
  parallel::Layout layout{ranks, 1, 1};
  for (int expert = 1; expert <= ranks && expert <= experts.fewest_computing(); ++expert) {
    if (ranks % expert == 0) layout.expert = expert;
  }
  return layout;
}

Settings settings_after(const Settings& before, const ExpertEdit& edit) {
  Settings after = before;
  edit.apply(after.moe);
  after.parallel.data_parallel = {};
  after.parallel.layers_per_stage = {};
  after.parallel.reproducible = {};
  after.device.threads = {};
  config::Problems problems;
  config::Schema<Settings>::check(after, problems);
  problems.raise();
  return after;
}

CheckpointHeader header_of(const SavedState& state, TrainState& edited, const Settings& after) {
  CheckpointHeader header = state.reader->manifest().header;
  const nlohmann::json before = std::move(header.state);
  header.state = edited.scalars();
  for (const char* key : {"samples", "events", "validation_loss"}) {
    if (before.contains(key)) header.state[key] = before[key];
  }
  header.state["config"] = config::print_resolved(after);
  return header;
}

void refuse_existing(const fs::path& output) {
  if (!list_steps(output / "checkpoints").empty())
    throw ConfigError(fmt::format("--output: {} has checkpoints already; name another directory", output.string()));
  if (fs::exists(output / "config.yaml"))
    throw ConfigError(fmt::format("--output: {} has a config.yaml already; name another directory", output.string()));
}

}  // namespace

SavedState open_state(Session& session, const fs::path& path) {
  const fs::path nested = path / "checkpoints";
  const ResumeRequest request{ResumePolicy::kPath, fs::is_directory(nested) ? nested : path};
  const ResumeChoice choice = choose_checkpoint(request.path, request, session.world());
  SavedState state;
  parallel::all_ok_after(session.world(), [&] {
    for (const std::string& skipped : choice.skipped) {
      if (session.rank() == 0) session.logger().warning(skipped);
    }
    const std::string name = choice.checkpoint->string();
    state.reader = std::make_unique<CheckpointReader>(*choice.checkpoint);
    StoredConfig stored = read_stored_config(name, state.reader->scalars().value("config", ""));
    if (session.rank() == 0 && !stored.unknown.empty()) session.logger().warning(stored.warning(name));
    state.settings = std::move(stored.settings);
    session.context().dtype = state.settings.precision.dtype();
  });
  return state;
}

ExpertFacts facts_of(SavedState& state, bool norms) {
  const model::ExpertLayout layout = state.layout();
  ExpertHistory history(layout);
  history.restore(state.reader->scalars());
  ExpertFacts facts = facts_of(history);
  if (!norms) return facts;
  for (const int64_t layer : layout.moe_layers()) {
    std::vector<double>& of_layer = facts.norms.emplace_back();
    for (int64_t place = 0; place < layout.layer(layer).experts(); ++place) {
      double sum = 0;
      for (const char* weight : {"w1", "w2", "w3"}) {
        const std::string name =
            fmt::format("/model/layers.{}.moe.experts.{}.{}", layer, layout.layer(layer).id_of(place), weight);
        if (state.reader->has(name)) sum += square_of(*state.reader, name);
      }
      of_layer.push_back(std::sqrt(sum));
    }
  }
  divide_by_means(facts.norms);
  return facts;
}

std::string list_text(SavedState& state) {
  constexpr const char* kLine = "{:<22}{:<14}{:>7}  {:<8}{:>8}{:>8}{:>8}{:>9}\n";
  const ExpertFacts facts = facts_of(state, true);
  const model::ExpertLayout layout = state.layout();
  const nlohmann::json& steps = state.reader->scalars().at("segment_steps");
  std::string text = fmt::format("{}: step {}, experts of {} layers\n", state.reader->where(),
                                 state.reader->manifest().header.step, layout.moe_layers().size());
  text += fmt::format(kLine, "expert", "group", "width", "act.", "load", "idle", "norm", "updates");
  for (size_t i = 0; i < layout.moe_layers().size(); ++i) {
    const int64_t layer = layout.moe_layers()[i];
    const model::LayerExperts& experts = layout.layer(layer);
    for (int64_t place = 0; place < experts.experts(); ++place) {
      const model::ExpertSet& set = experts.set_of(place);
      const bool computes = set.kind.computes();
      const auto at = static_cast<size_t>(place);
      const std::string segment = fmt::format("layers.{}.moe.experts.{}.w1", layer, experts.id_of(place));
      text += fmt::format(kLine, name_of({layer, place}, layout), set.name.empty() ? "-" : set.name,
                          computes ? std::to_string(set.kind.ffn_hidden_size) : "-",
                          computes ? config::enum_name(set.kind.activation) : config::enum_name(set.kind.computation),
                          fmt::format("{:.2f}", facts.loads[i][at]), facts.idle[i][at],
                          fmt::format("{:.2f}", facts.norms[i][at]), steps.value(segment, int64_t{0}));
    }
  }
  return text;
}

model::ExpertPlace one_expert(const SavedState& state, const std::string& selector) {
  const model::ExpertLayout layout = state.layout();
  const std::vector<model::ExpertPlace> places = model::ExpertSelector(selector).find(layout);
  if (places.size() == 1 && !layout.layer(places.front().layer).is_shared(places.front().expert)) return places.front();
  throw ConfigError(fmt::format("{}: names {} experts; wanted one that is routed, such as {}",
                                config::in_quotes(selector), places.size(),
                                layout.moe_layers().empty() ? "layers.0.experts.0 of another model"
                                                            : name_of({layout.moe_layers().front(), 0}, layout)));
}

ExpertEdit plan_operation(SavedState& state, const model::ExpertOperationSettings& operation) {
  const model::ExpertLayout layout = state.layout();
  const ExpertFacts facts = facts_of(state, asks_for_norms(operation.where));
  if (operation.kind != model::ExpertOperationKind::kAdd &&
      model::ExpertSelector(operation.experts).find(layout).empty())
    throw ConfigError(
        fmt::format("{}: no expert has this name; see cadre experts list", config::in_quotes(operation.experts)));
  const auto step = static_cast<double>(state.reader->manifest().header.step);
  const std::vector<model::ExpertPlace> chosen = choose_experts(
      operation, layout, facts, {{"step", step}, {"steps", static_cast<double>(state.settings.run.steps)}});
  return plan_edit(state.settings.network(), operation, chosen, facts.loads);
}

ExpertEdit plan_upcycle(const SavedState& state, int64_t first, int64_t last, int64_t experts, int64_t top_k,
                        double noise) {
  const model::ExpertLayout layout = state.layout();
  const model::ModelSettings& model = state.settings.model;
  if (experts < 1 || top_k < 1 || top_k > experts || !(noise >= 0))
    throw ConfigError(fmt::format("got {} experts, top {}, noise {}; wanted at least 1, at most as many, and from 0 on",
                                  experts, top_k, noise));
  ExpertEdit edit;
  for (int64_t layer = first; layer <= last; ++layer) {
    if (layer >= layout.layers() || layout.is_moe(layer))
      throw ConfigError(fmt::format("--layers: layer {} {}; wanted dense layers", layer,
                                    layer >= layout.layers() ? "is none of the model's" : "has experts already"));
    model::EditedGroupSettings group;
    group.ffn_hidden_size = model.dense_ffn();
    group.activation = model.activation;
    group.init_std = model.init_std;
    for (int64_t id = 0; id < experts; ++id) {
      group.ids.push_back(id);
      ExpertRecipe& recipe = edit.recipes[{layer, id}];
      recipe.sources.push_back({fmt::format("layers.{}.mlp", layer)});
      recipe.noise = noise;  // its router is new
    }
    edit.layers.push_back({layer, top_k, experts, {group}});
    edit.notes.push_back(fmt::format("layers.{} has {} experts", layer, experts));
  }
  return edit;
}

ExpertEdit plan_import(SavedState& state, const fs::path& path, const std::string& into, const std::string& replaced) {
  const auto file = std::make_shared<ExpertFile>(path);
  if (file->hidden_size() != state.settings.model.hidden_size)
    throw ConfigError(fmt::format("{}: its expert reads {} numbers a token, the model has {}", path.string(),
                                  file->hidden_size(), state.settings.model.hidden_size));
  const model::ExpertLayout layout = state.layout();
  const model::ExpertKind kind = file->kind();
  ExpertEdit edit;
  if (!replaced.empty()) {
    const model::ExpertPlace place = one_expert(state, replaced);
    const model::LayerExperts& experts = layout.layer(place.layer);
    const model::ExpertKind& own = experts.set_of(place.expert).kind;
    if (own.ffn_hidden_size != kind.ffn_hidden_size || own.activation != kind.activation)
      throw ConfigError(fmt::format("{}: is {} wide with {}, {} is {} wide with {}", path.string(),
                                    kind.ffn_hidden_size, config::enum_name(kind.activation), replaced,
                                    own.ffn_hidden_size, config::enum_name(own.activation)));
    edit.layers.push_back(written_out(place.layer, experts));
    edit.recipes[{place.layer, experts.id_of(place.expert)}] = {{{"expert", 1, file}}, {{place.expert}}};
    edit.notes.push_back(
        fmt::format("{} is {} of {}", name_of(place, layout), file->provenance().at("expert"), path.string()));
    return edit;
  }
  model::ExpertOperationSettings add;
  add.kind = model::ExpertOperationKind::kAdd;
  add.experts = into;
  add.ffn_hidden_size = kind.ffn_hidden_size;
  add.activation = kind.activation;
  edit = plan_operation(state, add);
  const model::RouterSettings& router = state.settings.moe.router;
  const int64_t columns = router.key_size > 0 ? router.key_size : state.settings.model.hidden_size;
  for (auto& [where, recipe] : edit.recipes) {
    recipe.sources = {{"expert", 1, file}};
    if (!file->has_router(columns)) continue;
    recipe.rows = {{0, 1, file}};
    recipe.row_noise = 0;
  }
  return edit;
}

fs::path write_edited(Session& session, SavedState& state, const ExpertEdit& edit, const fs::path& output) {
  const Settings after = settings_after(state.settings, edit);
  parallel::all_ok_after(session.world(), [&] {
    if (session.rank() == 0) refuse_existing(output);
  });
  const model::ExpertLayout layout(after.network());
  parallel::Mesh mesh(session.world(), layout_for(session.ranks(), layout));
  ShardOptions options;
  options.zero = 1;
  const ModelShard shard(mesh, after.network(), options);
  TrainState edited(session.context(), after.network(), shard, after.optimizer, after.run.seed);
  EditedSource source(*state.reader, state.layout(), layout, edit, after.run.seed);
  parallel::all_ok_after(session.world(), [&] { edited.restore(source); });
  std::vector<StateEntry> entries = edited.entries_to_save();
  const Tensor tokenizer = Tensor::empty(session.allocator(), Dtype::kU8, state.reader->tensor("/tokenizer").shape);
  state.reader->read("/tokenizer", tokenizer);
  if (session.rank() == 0) entries.push_back(whole_entry("/tokenizer", tokenizer));
  CheckpointWriter writer({output / "checkpoints", static_cast<uint64_t>(after.checkpoint.shard_mib) << 20, {}},
                          session.world(), session.allocator());
  const fs::path saved = writer.save(header_of(state, edited, after), entries).directory;
  parallel::all_ok_after(session.world(), [&] {
    if (session.rank() != 0) return;
    Settings continued = after;
    continued.run.directory = output.string();
    atomic_write(output / "config.yaml", bytes_of(config::print_resolved(continued)));
  });
  return saved;
}

}  // namespace cadre::launch
