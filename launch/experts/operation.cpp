#include "launch/experts/operation.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "core/config/messages.h"

namespace cadre::launch {
namespace {

using model::EditedGroupSettings;
using model::EditedLayerSettings;
using model::ExpertOperationKind;
using model::LayerExperts;

// One layer under operation.
class LayerEditor {
 public:
  LayerEditor(const model::NetworkSettings& network, const model::ExpertOperationSettings& operation, int64_t layer,
              const LayerExperts& before, std::vector<double> loads)
      : network_(network),
        operation_(operation),
        before_(before),
        loads_(std::move(loads)),
        after_(written_out(layer, before)) {
    kind_.ffn_hidden_size = operation.ffn_hidden_size.value_or(network.expert_ffn());
    kind_.activation = operation.activation.value_or(network.model.activation);
    kind_.init_std = network.model.init_std;
    if (operation.top_k) after_.top_k = *operation.top_k;
  }

  // `chosen`: ids.
  void run(const std::vector<int64_t>& chosen) {
    switch (operation_.kind) {
      case ExpertOperationKind::kAdd: return add(model::ExpertSelector(operation_.experts).group());
      case ExpertOperationKind::kClone: return each(chosen, &LayerEditor::clone);
      case ExpertOperationKind::kSplit: return split(chosen);
      case ExpertOperationKind::kMerge: return merge(chosen);
      case ExpertOperationKind::kPrune: return each(chosen, &LayerEditor::prune);
      case ExpertOperationKind::kReinitialise: return reinitialise(chosen);
    }
  }

  void finish(ExpertEdit& edit) {
    std::erase_if(after_.groups,
                  [](const EditedGroupSettings& group) { return group.ids.empty() && group.count == 0; });
    edit.layers.push_back(after_);
    for (auto& [id, recipe] : recipes_) edit.recipes[{after_.layer, id}] = std::move(recipe);
    for (std::string& note : notes_) edit.notes.push_back(std::move(note));
  }

 private:
  void each(const std::vector<int64_t>& chosen, void (LayerEditor::*one)(int64_t)) {
    for (const int64_t id : chosen) (this->*one)(id);
  }
  int64_t count() const { return operation_.count.value_or(operation_.kind == ExpertOperationKind::kSplit ? 2 : 1); }
  int64_t born() { return after_.next_id++; }
  std::string name(int64_t id) const { return fmt::format("layers.{}.experts.{}", after_.layer, id); }
  std::string prefix(int64_t id) const { return fmt::format("layers.{}.moe.experts.{}", after_.layer, id); }
  double load_of(int64_t id) const { return loads_[static_cast<size_t>(before_.place_of(id))]; }

  EditedGroupSettings& group_of(int64_t id) {
    return *std::find_if(after_.groups.begin(), after_.groups.end(), [&](const EditedGroupSettings& group) {
      return std::find(group.ids.begin(), group.ids.end(), id) != group.ids.end();
    });
  }
  static void replace(std::vector<int64_t>& ids, int64_t id, const std::vector<int64_t>& by) {
    const auto at = ids.erase(std::find(ids.begin(), ids.end(), id));
    ids.insert(at, by.begin(), by.end());
  }
  // A token's weights are shares of a whole, which copies divide among themselves.
  bool shares() const {
    const model::RouterSettings& router = network_.moe.router;
    return router.score == autograd::ScoreKind::kSoftmax || router.renormalise;
  }
  ExpertRecipe copy_of(int64_t id) const { return {{{prefix(id)}}, {{before_.place_of(id)}}}; }
  // Of one that begins anew; not from the row of one that goes.
  ExpertRecipe fresh(const std::vector<int64_t>& going) const {
    int64_t busiest = 0;
    double most = -1;
    for (int64_t place = 0; place < before_.experts(); ++place) {
      const bool goes = std::find(going.begin(), going.end(), before_.id_of(place)) != going.end();
      const double load = loads_[static_cast<size_t>(place)];
      if (!goes && load > most) busiest = place, most = load;
    }
    ExpertRecipe recipe{{}, {{busiest}}};
    recipe.row_noise = operation_.noise;
    return recipe;
  }

  void clone(int64_t id) {
    const double scale = shares() ? 1 : 1 / static_cast<double>(count() + 1);
    for (int64_t i = 0; i < count(); ++i) {
      const int64_t copy = born();
      replace(group_of(id).ids, id, {id, copy});
      ExpertRecipe& recipe = recipes_[copy] = copy_of(id);
      recipe.noise = recipe.row_noise = operation_.noise;
      recipe.output_scale = scale;
      notes_.push_back(fmt::format("{} is a copy of {}", name(copy), name(id)));
    }
    if (scale == 1) return;
    recipes_[id] = copy_of(id);
    recipes_[id].output_scale = scale;
  }

  void split(const std::vector<int64_t>& chosen) {
    std::map<std::string, std::vector<std::pair<int64_t, std::vector<int64_t>>>> parts;  // by group
    for (const int64_t id : chosen) {
      const EditedGroupSettings& group = group_of(id);
      if (group.computation != model::ExpertComputation::kFull || group.ffn_hidden_size % count() != 0) {
        throw ConfigError(
            fmt::format("{}: cannot be split into {} parts of its {} hidden units; wanted a divisor of them", name(id),
                        count(), group.ffn_hidden_size));
      }
      auto& [whole, ids] = parts[group.name].emplace_back(id, std::vector<int64_t>());
      for (int64_t part = 0; part < count(); ++part) {
        ids.push_back(born());
        ExpertRecipe& recipe = recipes_[ids.back()] = copy_of(id);
        recipe.part = part;
        recipe.parts = count();
        recipe.noise = recipe.row_noise = operation_.noise;
        recipe.output_scale = shares() ? static_cast<double>(count()) : 1;
        notes_.push_back(fmt::format("{} is part {} of {} of {}", name(ids.back()), part + 1, count(), name(whole)));
      }
    }
    for (const auto& [group, of_group] : parts) place_parts(group, of_group);
  }

  void place_parts(const std::string& name, const std::vector<std::pair<int64_t, std::vector<int64_t>>>& parts) {
    EditedGroupSettings& group = group_of(parts.front().first);
    const int64_t width = group.ffn_hidden_size / count();
    if (group.ids.size() == parts.size()) {
      for (const auto& [id, ids] : parts) replace(group.ids, id, ids);
      group.ffn_hidden_size = width;
      return;
    }
    EditedGroupSettings thin = group;
    thin.name = name.empty() ? "split" : name + "_split";
    thin.ids.clear();
    thin.ffn_hidden_size = width;
    for (const auto& [id, ids] : parts) {
      std::erase(group.ids, id);
      thin.ids.insert(thin.ids.end(), ids.begin(), ids.end());
    }
    EditedGroupSettings* const there = find(thin.name);
    if (there == nullptr) {
      after_.groups.insert(after_.groups.begin() + (&group - after_.groups.data()) + 1, thin);
    } else if (there->ffn_hidden_size == width && there->activation == thin.activation) {
      there->ids.insert(there->ids.end(), thin.ids.begin(), thin.ids.end());
    } else {
      throw ConfigError(fmt::format("layers.{}: has a group {} of another width; split all of {} at once", after_.layer,
                                    config::in_quotes(thin.name), config::in_quotes(name)));
    }
  }

  void merge(const std::vector<int64_t>& chosen) {
    if (chosen.size() < 2) return;
    const int64_t merged = born();
    const EditedGroupSettings first = group_of(chosen.front());
    const double sum = std::accumulate(chosen.begin(), chosen.end(), 0.0,
                                       [&](double partial, int64_t id) { return partial + load_of(id); });
    ExpertRecipe& recipe = recipes_[merged];
    std::string names;
    for (const int64_t id : chosen) {
      const EditedGroupSettings& group = group_of(id);
      if (group.ffn_hidden_size != first.ffn_hidden_size || group.activation != first.activation ||
          group.computation != first.computation) {
        throw ConfigError(
            fmt::format("{} and {}: are of different kinds and cannot be merged", name(chosen.front()), name(id)));
      }
      const double weight = sum > 0 ? load_of(id) / sum : 1 / static_cast<double>(chosen.size());
      recipe.sources.push_back({prefix(id), weight});
      recipe.rows.push_back({before_.place_of(id), weight});
      names += (names.empty() ? "" : ", ") + name(id);
    }
    notes_.push_back(fmt::format("{} is the mean of {}", name(merged), names));
    replace(group_of(chosen.front()).ids, chosen.front(), {merged});
    for (size_t i = 1; i < chosen.size(); ++i) std::erase(group_of(chosen[i]).ids, chosen[i]);
  }

  void prune(int64_t id) {
    std::erase(group_of(id).ids, id);
    notes_.push_back(name(id) + " is gone");
  }

  void reinitialise(const std::vector<int64_t>& chosen) {
    for (const int64_t id : chosen) {
      const int64_t next = born();
      replace(group_of(id).ids, id, {next});
      recipes_[next] = fresh(chosen);
      notes_.push_back(fmt::format("{} begins anew in the place of {}", name(next), name(id)));
    }
  }

  EditedGroupSettings* find(const std::string& name) {
    const auto found = std::find_if(after_.groups.begin(), after_.groups.end(), [&](const EditedGroupSettings& group) {
      return group.name == name && !group.ids.empty();
    });
    return found == after_.groups.end() ? nullptr : &*found;
  }

  void add(const std::string& name) {
    EditedGroupSettings* group = find(name);
    if (group == nullptr) {
      const auto simple = std::find_if(
          after_.groups.begin(), after_.groups.end(),
          [](const EditedGroupSettings& other) { return other.computation != model::ExpertComputation::kFull; });
      EditedGroupSettings made = kind_;
      made.name = name;
      group = &*after_.groups.insert(simple, made);
    } else if (operation_.ffn_hidden_size.value_or(group->ffn_hidden_size) != group->ffn_hidden_size ||
               operation_.activation.value_or(group->activation) != group->activation) {
      throw ConfigError(fmt::format("layers.{}: its experts of {} are of another width or activation; name a new group",
                                    after_.layer, config::in_quotes(name)));
    }
    for (int64_t i = 0; i < count(); ++i) {
      const int64_t next = born();
      group->ids.push_back(next);
      recipes_[next] = fresh({});
      notes_.push_back(this->name(next) + " begins");
    }
  }

  const model::NetworkSettings& network_;
  const model::ExpertOperationSettings& operation_;
  const LayerExperts& before_;
  std::vector<double> loads_;  // by place
  EditedGroupSettings kind_;   // of a group that is new
  EditedLayerSettings after_;
  std::map<int64_t, ExpertRecipe> recipes_;  // by id
  std::vector<std::string> notes_;
};

// Ids to operate on, by layer; of `add`, layers alone.
std::map<int64_t, std::vector<int64_t>> by_layer(const model::ExpertLayout& layout,
                                                 const model::ExpertOperationSettings& operation,
                                                 const std::vector<model::ExpertPlace>& chosen) {
  std::map<int64_t, std::vector<int64_t>> result;
  for (const model::ExpertPlace& place : chosen) {
    result[place.layer].push_back(layout.layer(place.layer).id_of(place.expert));
  }
  if (operation.kind == ExpertOperationKind::kMerge) {
    std::erase_if(result, [](const auto& layer) { return layer.second.size() < 2; });
  }
  if (operation.kind != ExpertOperationKind::kAdd) return result;
  const model::ExpertSelector selector(operation.experts);
  if (selector.group().empty()) {
    throw ConfigError(fmt::format("{}: wanted a group that gets new experts, such as layers.*.experts.code",
                                  config::in_quotes(operation.experts)));
  }
  result.clear();
  for (const int64_t layer : layout.moe_layers()) {
    if (selector.layers().has(layer)) result[layer];
  }
  return result;
}

// A router's groups are equal runs of places, whose weights and limits are theirs: whoever stays must stay in its own,
// and copies and parts where their original was.
void check_router_groups(int64_t groups, const model::ExpertLayout& before, const model::ExpertLayout& after,
                         const ExpertEdit& edit) {
  for (const int64_t layer : before.moe_layers()) {
    const LayerExperts &old = before.layer(layer), &now = after.layer(layer);
    for (int64_t place = 0; groups > 1 && place < now.experts(); ++place) {
      int64_t was = old.place_of(now.id_of(place));
      const auto recipe = edit.recipes.find({layer, now.id_of(place)});
      const bool copied = was < 0 && recipe != edit.recipes.end() && !recipe->second.sources.empty();
      if (copied && !recipe->second.rows.empty() && !recipe->second.rows.front().file)
        was = recipe->second.rows.front().place;
      if (was < 0 || was / (old.experts() / groups) == place / (now.experts() / groups)) continue;
      throw model::ExpertLayoutError(
          "moe.router.groups", fmt::format("layers.{}.experts.{} would be in another of the router's {} groups; wanted "
                                           "as many to come or go in each",
                                           layer, now.id_of(place), groups));
    }
  }
}

// What a config's schema says of events, for operations from elsewhere.
void check_numbers(const model::ExpertOperationSettings& operation) {
  const auto refuse = [](const char* key, auto got, const char* wanted) {
    throw ConfigError(fmt::format("{}: got {}, wanted {}", key, got, wanted));
  };
  if (operation.count.value_or(1) < 1) refuse("count", *operation.count, "at least 1");
  if (operation.top_k.value_or(1) < 1) refuse("top_k", *operation.top_k, "at least 1");
  if (operation.ffn_hidden_size.value_or(1) < 1) refuse("ffn_hidden_size", *operation.ffn_hidden_size, "at least 1");
  if (!(operation.noise >= 0 && operation.noise < 1e6)) refuse("noise", operation.noise, "a number from 0 on");
}

}  // namespace

void ExpertEdit::apply(model::MoeSettings& moe) const {
  for (const EditedLayerSettings& edited : layers) {
    std::erase_if(moe.edited_layers, [&](const EditedLayerSettings& old) { return old.layer == edited.layer; });
    moe.edited_layers.push_back(edited);
  }
  std::sort(moe.edited_layers.begin(), moe.edited_layers.end(),
            [](const EditedLayerSettings& a, const EditedLayerSettings& b) { return a.layer < b.layer; });
}

ExpertEdit plan_edit(const model::NetworkSettings& network, const model::ExpertOperationSettings& operation,
                     const std::vector<model::ExpertPlace>& chosen, const ExpertLoadTable& loads) {
  check_numbers(operation);
  const model::ExpertLayout layout(network);
  ExpertEdit edit;
  for (const auto& [layer, ids] : by_layer(layout, operation, chosen)) {
    LayerEditor editor(network, operation, layer, layout.layer(layer), loads.at(layout.moe_index(layer)));
    editor.run(ids);
    editor.finish(edit);
  }
  model::NetworkSettings after = network;
  edit.apply(after.moe);
  try {
    check_router_groups(network.moe.router.groups, layout, model::ExpertLayout(after), edit);
  } catch (const model::ExpertLayoutError& failure) {
    throw ConfigError(fmt::format("{}: {}", config::enum_name(operation.kind), failure.text()));
  }
  return edit;
}

}  // namespace cadre::launch
