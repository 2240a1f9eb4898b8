#include <fmt/core.h>

#include <cstdio>

#include "core/config/config.h"
#include "launch/cli/commands.h"
#include "launch/cli/together.h"
#include "launch/experts/expert_file.h"
#include "launch/experts/offline.h"

namespace cadre::launch {
namespace {

// Opens the checkpoint and writes what `plan` makes of it.
int edit_with(const ExpertsArguments& arguments, const std::function<ExpertEdit(SavedState&)>& plan) {
  Session session({}, Dtype::kF32);
  return run_together(session, [&] {
    SavedState state = open_state(session, arguments.checkpoint);
    const ExpertEdit edit = plan(state);
    if (edit.empty()) throw ConfigError("--where: no expert was chosen, and nothing is written");
    const std::filesystem::path saved = write_edited(session, state, edit, arguments.output);
    if (session.rank() != 0) return 0;
    for (const std::string& note : edit.notes) fmt::print("{}\n", note);
    fmt::print("{}\ngo on with: cadre train {}/config.yaml\n", saved.string(), arguments.output);
    return 0;
  });
}

model::ExpertOperationKind kind_of(const std::string& name) {
  for (const auto& [value, text] : config::EnumNames<model::ExpertOperationKind>::values) {
    if (text == name) return value;
  }
  return model::ExpertOperationKind::kClone;
}

}  // namespace

int command_experts_edit(const std::string& operation, const ExpertsArguments& arguments) {
  model::ExpertOperationSettings settings;
  settings.kind = kind_of(operation);
  settings.experts = arguments.experts;
  settings.where = config::Expression(arguments.where.c_str());
  settings.count = arguments.count;
  settings.noise = arguments.noise;
  settings.top_k = arguments.top_k;
  settings.ffn_hidden_size = arguments.ffn_hidden_size;
  for (const auto& [value, text] : config::EnumNames<kernels::Activation>::values) {
    if (text == arguments.activation) settings.activation = value;
  }
  return edit_with(arguments, [&](SavedState& state) { return plan_operation(state, settings); });
}

int command_experts_upcycle(const UpcycleArguments& upcycle, const ExpertsArguments& arguments) {
  return edit_with(arguments, [&](SavedState& state) {
    const auto run = model::ExpertSelector("layers." + upcycle.layers + ".experts.*").layers();
    const int64_t last = std::min(run.last, state.settings.model.num_layers - 1);
    return plan_upcycle(state, run.first, upcycle.layers == "*" ? last : run.last, upcycle.experts, upcycle.top_k,
                        arguments.noise);
  });
}

int command_experts_import(const ImportArguments& import, const ExpertsArguments& arguments) {
  return edit_with(arguments, [&](SavedState& state) {
    if (import.into.empty() == import.replace.empty()) throw ConfigError("import: wanted --into or --replace");
    return plan_import(state, import.file, import.into, import.replace);
  });
}

int command_experts_list(const std::string& checkpoint) {
  Session session({}, Dtype::kF32);
  return run_together(session, [&] {
    require_one_rank(session, "experts list");
    SavedState state = open_state(session, checkpoint);
    std::fputs(list_text(state).c_str(), stdout);
    return 0;
  });
}

int command_experts_export(const ExpertsArguments& arguments) {
  Session session({}, Dtype::kF32);
  return run_together(session, [&] {
    require_one_rank(session, "experts export");
    SavedState state = open_state(session, arguments.checkpoint);
    const model::ExpertPlace place = one_expert(state, arguments.experts);
    export_expert(*state.reader, state.settings, place, arguments.output);
    fmt::print("{}: {}\n", arguments.output, name_of(place, state.layout()));
    return 0;
  });
}

}  // namespace cadre::launch
