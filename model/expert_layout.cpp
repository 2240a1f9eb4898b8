#include "model/expert_layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/config/messages.h"
#include "kernels/choice.h"

namespace cadre::model {
namespace {

using config::Variables;

constexpr int64_t kMostExperts = 1 << 16;  // of a layer
constexpr int64_t kMostTurns = 1024;       // of one loop

// Computes one layer; `key` paths name what is wrong.
class LayerBuilder {
 public:
  LayerBuilder(const NetworkSettings& network, Variables variables, int64_t layer)
      : network_(network), variables_(std::move(variables)), layer_(layer) {
    variables_["layer"] = static_cast<double>(layer);
  }

  LayerExperts build() {
    const MoeSettings& moe = network_.moe;
    for (size_t i = 0; i < moe.edited_layers.size(); ++i) {
      if (moe.edited_layers[i].layer == layer_)
        return edited(moe.edited_layers[i], fmt::format("moe.edited_layers[{}]", i));
    }
    bool dense = layer_ < moe.dense_layers;
    result_.top_k = moe.top_k;
    const std::vector<ExpertGroupSettings>* groups = &moe.groups;
    std::string groups_key = "moe.groups", top_k_key = "moe.top_k";
    for (size_t i = 0; i < moe.layers.size(); ++i) {
      const ExpertLayerSettings& pattern = moe.layers[i];
      const std::string key = fmt::format("moe.layers[{}]", i);
      if (!at(key + ".when", [&] { return config::evaluate_condition(pattern.when, variables_); })) continue;
      dense = pattern.dense;
      if (pattern.top_k) {
        top_k_key = key + ".top_k";
        result_.top_k = at(top_k_key, [&] { return config::evaluate_whole(*pattern.top_k, variables_, 1); });
      }
      if (pattern.groups) {
        groups = &*pattern.groups;
        groups_key = key + ".groups";
      }
    }
    if (dense) return {};
    if (groups->empty()) {
      add_plain();
    } else {
      for (size_t i = 0; i < groups->size(); ++i) add_all((*groups)[i], fmt::format("{}[{}]", groups_key, i));
      if (result_.routed.empty()) {
        throw ExpertLayoutError(
            groups_key,
            fmt::format("no routed experts in layer {}; wanted some, or dense: true in moe.layers", layer_));
      }
    }
    if (!result_.is_moe()) return {};
    return checked(groups_key, top_k_key);
  }

 private:
  LayerExperts checked(const std::string& groups_key, const std::string& top_k_key) {
    if (result_.computing() == 0) {
      throw ExpertLayoutError(
          groups_key, fmt::format("no expert of layer {} computes; wanted a group with computation: full", layer_));
    }
    result_.places = network_.moe.router.choice == kernels::ChoiceKind::kExpert ? result_.experts() : result_.top_k;
    if (result_.top_k > kernels::kMostChoices) {
      throw ExpertLayoutError(
          top_k_key, fmt::format("is {} in layer {}, wanted at most {}", result_.top_k, layer_, kernels::kMostChoices));
    }
    if (result_.top_k > result_.experts()) {
      throw ExpertLayoutError(top_k_key, fmt::format("{} is more than the {} routed experts of layer {}", result_.top_k,
                                                     result_.experts(), layer_));
    }
    check_router_groups();
    return std::move(result_);
  }

  LayerExperts edited(const EditedLayerSettings& settings, const std::string& key) {
    result_.top_k = settings.top_k;
    result_.unused_id = settings.next_id;
    std::set<int64_t> seen;
    for (const EditedGroupSettings& group : settings.groups) {
      ExpertSet set{group.name,
                    0,
                    group.count,
                    {group.ffn_hidden_size, group.activation, group.init_std, group.computation},
                    group.placement};
      at(key + ".groups", [&] { return GroupPlacement::parse(group.placement); });
      const auto refuse = [&](const std::string& why) {
        throw ExpertLayoutError(key + ".groups", fmt::format("{}: {}", config::in_quotes(group.name), why));
      };
      if (!names_.insert(group.name).second && !group.ids.empty()) refuse("names two groups");
      if (group.ids.empty() == (group.count == 0)) refuse("wanted ids, of routed experts, or a count, of shared ones");
      for (const int64_t id : group.ids) {
        if (!seen.insert(id).second || id >= settings.next_id)
          refuse(fmt::format("id {} is there twice, or not below next_id {}", id, settings.next_id));
      }
      if (set.kind.computes() != (set.kind.ffn_hidden_size > 0)) refuse("wanted a width of those that compute alone");
      if (set.kind.computes() && group.count == 0 && result_.computing() < result_.experts())
        refuse("computes, and stands behind a group that does not");
      if (group.count > 0) {
        result_.shared.push_back(set);
        continue;
      }
      set.first = result_.experts();
      set.count = static_cast<int64_t>(group.ids.size());
      result_.routed.push_back(set);
      result_.ids.insert(result_.ids.end(), group.ids.begin(), group.ids.end());
    }
    if (!result_.is_moe()) throw ExpertLayoutError(key + ".groups", "no routed experts; wanted some");
    return checked(key + ".groups", key + ".top_k");
  }

  void check_router_groups() const {
    const RouterSettings& router = network_.moe.router;
    const int64_t experts = result_.experts();
    if (experts % router.groups != 0) {
      throw ExpertLayoutError("moe.router.groups", fmt::format("{} does not divide the {} routed experts of layer {}",
                                                               router.groups, experts, layer_));
    }
    const int64_t kept = experts / router.groups * router.kept_groups;
    if (result_.top_k > kept) {
      throw ExpertLayoutError("moe.router.kept_groups",
                              fmt::format("{} of {} groups have {} experts of layer {}, fewer than its top_k {}",
                                          router.kept_groups, router.groups, kept, layer_, result_.top_k));
    }
  }

  // Errors of `compute` belong to this key and layer.
  template <class F>
  auto at(const std::string& key, F compute) -> decltype(compute()) {
    try {
      return compute();
    } catch (const ExpertLayoutError&) {
      throw;
    } catch (const ConfigError& failure) {
      throw ExpertLayoutError(key, fmt::format("in layer {}: {}", layer_, failure.what()));
    }
  }

  ExpertKind plain_kind() const { return {network_.expert_ffn(), network_.model.activation, network_.model.init_std}; }

  void add_plain() {
    const MoeSettings& moe = network_.moe;
    if (moe.num_experts > 0) result_.routed.push_back({"", 0, moe.num_experts, plain_kind()});
    if (moe.num_experts > 0 && moe.shared_experts > 0)
      result_.shared.push_back({"", 0, moe.shared_experts, plain_kind()});
  }

  // A group, once or for each value of its loop.
  void add_all(const ExpertGroupSettings& group, const std::string& key) {
    if (group.each.empty()) return add(group, group.name, key);
    const std::string where = key + ".each";
    const size_t equals = group.each.find('='), dots = group.each.find("..");
    std::string variable = group.each.substr(0, equals);
    std::erase(variable, ' ');
    const bool written =
        equals != std::string::npos && dots != std::string::npos && equals < dots && config::is_identifier(variable);
    if (!written || variables_.contains(variable)) {
      throw ExpertLayoutError(
          where, fmt::format("got {}, wanted a new variable and its first and last value, as in \"i = 0..3\"",
                             config::in_quotes(group.each)));
    }
    const size_t mark = group.name.find("{" + variable + "}");
    if (mark == std::string::npos) {
      throw ExpertLayoutError(key + ".name", fmt::format("{} lacks {{{}}}, and groups would be named alike",
                                                         config::in_quotes(group.name), variable));
    }
    const auto bound = [&](std::string text) {
      config::Expression expression;
      expression.text = std::move(text);
      return at(where, [&] { return config::evaluate_whole(expression, variables_, 0); });
    };
    const int64_t first = bound(group.each.substr(equals + 1, dots - equals - 1)),
                  last = bound(group.each.substr(dots + 2));
    if (last - first >= kMostTurns)
      throw ExpertLayoutError(
          where, fmt::format("{} turns in layer {}; wanted at most {}", last - first + 1, layer_, kMostTurns));
    for (int64_t i = first; i <= last; ++i) {
      variables_[variable] = static_cast<double>(i);
      std::string name = group.name;
      add(group, name.replace(mark, variable.size() + 2, std::to_string(i)), key);
    }
    variables_.erase(variable);
  }

  void add(const ExpertGroupSettings& group, const std::string& name, const std::string& key) {
    if (!at(key + ".when", [&] { return config::evaluate_condition(group.when, variables_); })) return;
    if (!names_.insert(name).second)
      throw ExpertLayoutError(key + ".name",
                              fmt::format("{} names two groups of layer {}", config::in_quotes(name), layer_));
    ExpertSet set{name, group.shared ? 0 : result_.experts(), 0, plain_kind()};
    set.count = at(key + ".count", [&] { return config::evaluate_whole(group.count, variables_, 0); });
    if (!group.ffn_hidden_size.is_auto()) {
      set.kind.ffn_hidden_size = at(key + ".ffn_hidden_size", [&] {
        return config::evaluate_whole(*group.ffn_hidden_size.value, variables_, 1);
      });
    }
    set.kind.activation = group.activation.value_or(set.kind.activation);
    set.kind.computation = group.computation;
    if (!set.kind.computes()) set.kind.ffn_hidden_size = 0;
    if (!group.init_std.is_auto()) {
      set.kind.init_std = at(key + ".init_std", [&] { return config::evaluate(*group.init_std.value, variables_); });
    }
    if (set.kind.init_std <= 0)
      throw ExpertLayoutError(key + ".init_std",
                              fmt::format("is {} in layer {}, wanted > 0", set.kind.init_std, layer_));
    set.placement = group.placement;
    const GroupPlacement placement = at(key + ".placement", [&] { return GroupPlacement::parse(group.placement); });
    if (!placement.even && (group.shared || !set.kind.computes()))
      throw ExpertLayoutError(key + ".placement", "is of routed experts that compute; every rank has the others");
    if (set.count == 0) return;
    if (set.kind.computes() && !group.shared && result_.computing() < result_.experts()) {
      throw ExpertLayoutError(key + ".computation",
                              fmt::format("{} computes, and stands behind a group of layer {} that does not; wanted "
                                          "groups of computation zero, copy and constant last",
                                          config::in_quotes(name), layer_));
    }
    (group.shared ? result_.shared : result_.routed).push_back(set);
    if (result_.experts() > kMostExperts)
      throw ExpertLayoutError(key + ".count", fmt::format("makes {} experts in layer {}; wanted at most {}",
                                                          result_.experts(), layer_, kMostExperts));
  }

  const NetworkSettings& network_;
  Variables variables_;
  int64_t layer_;
  LayerExperts result_;
  std::set<std::string> names_;
};

Variables variables_of(const NetworkSettings& network) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  Variables variables{{"num_layers", number(network.model.num_layers)},
                      {"hidden_size", number(network.model.hidden_size)},
                      {"ffn_hidden_size", number(network.expert_ffn())},
                      {"top_k", number(network.moe.top_k)}};
  for (const auto& [name, value] : network.moe.variables) {
    if (variables.contains(name) || name == "layer")
      throw ExpertLayoutError("moe.variables", fmt::format("{} has a meaning already", name));
  }
  try {
    config::evaluate_all(network.moe.variables, variables);
  } catch (const ConfigError& failure) {
    throw ExpertLayoutError("moe.variables", failure.what());
  }
  return variables;
}

}  // namespace

int64_t LayerExperts::experts() const { return routed.empty() ? 0 : routed.back().first + routed.back().count; }

int64_t LayerExperts::computing() const {
  const auto simple =
      std::find_if(routed.begin(), routed.end(), [](const ExpertSet& set) { return !set.kind.computes(); });
  return simple == routed.end() ? experts() : simple->first;
}

const ExpertSet& LayerExperts::set_of(int64_t place) const {
  if (is_shared(place)) return shared[static_cast<size_t>(place - experts())];
  const auto behind = std::upper_bound(routed.begin(), routed.end(), place,
                                       [](int64_t p, const ExpertSet& set) { return p < set.first; });
  return *(behind - 1);
}

int64_t LayerExperts::place_of(int64_t id) const {
  if (ids.empty()) return id >= 0 && id < experts() ? id : -1;
  const auto found = std::find(ids.begin(), ids.end(), id);
  return found == ids.end() ? -1 : found - ids.begin();
}

EditedLayerSettings written_out(int64_t layer, const LayerExperts& experts) {
  EditedLayerSettings result{layer, experts.top_k, experts.next_id(), {}};
  const auto group_of = [](const ExpertSet& set) {
    return EditedGroupSettings{
        set.name,         {}, 0, set.kind.computation, set.placement, set.kind.ffn_hidden_size, set.kind.activation,
        set.kind.init_std};
  };
  for (const ExpertSet& set : experts.routed) {
    EditedGroupSettings group = group_of(set);
    for (int64_t i = 0; i < set.count; ++i) group.ids.push_back(experts.id_of(set.first + i));
    result.groups.push_back(std::move(group));
  }
  for (const ExpertSet& set : experts.shared) {
    result.groups.push_back(group_of(set));
    result.groups.back().count = set.count;
  }
  return result;
}

int LayerExperts::kinds_in_a_row() const { return routed.empty() ? 0 : kind_index(computing() - 1) + 1; }

int LayerExperts::kind_index(int64_t place) const {
  int index = 0;
  for (size_t i = 1; i < routed.size() && routed[i].first <= place; ++i) {
    if (!(routed[i].kind == routed[i - 1].kind)) ++index;
  }
  return index;
}

ExpertLayout::ExpertLayout(const NetworkSettings& network)
    : changes_(!network.moe.edited_layers.empty() || !network.moe.events.empty()) {
  const Variables variables = variables_of(network);
  for (int64_t layer = 0; layer < network.model.num_layers; ++layer) {
    layers_.push_back(LayerBuilder(network, variables, layer).build());
    moe_index_.push_back(moe_layers_.size());
    if (layers_.back().is_moe()) moe_layers_.push_back(layer);
  }
}

int64_t ExpertLayout::most_experts() const {
  int64_t most = 0;
  for (const LayerExperts& layer : layers_) most = std::max(most, layer.experts());
  return most;
}

int64_t ExpertLayout::fewest_computing() const {
  int64_t fewest = moe_layers_.empty() ? 0 : layer(moe_layers_[0]).computing();
  for (const int64_t moe : moe_layers_) fewest = std::min(fewest, layer(moe).computing());
  return fewest;
}

int64_t ExpertLayout::most_computing() const {
  int64_t most = 0;
  for (const LayerExperts& layer : layers_) most = std::max(most, layer.computing());
  return most;
}

bool ExpertLayout::has_copies() const {
  for (const LayerExperts& layer : layers_) {
    for (const ExpertSet& set : layer.routed) {
      const GroupPlacement placement = GroupPlacement::parse(set.placement);
      if (!placement.even && placement.last < placement.first) return true;
    }
  }
  return false;
}

std::vector<size_t> ExpertLayout::classes() const {
  std::vector<size_t> classes;
  std::vector<const LayerExperts*> kinds;
  for (const LayerExperts& layer : layers_) {
    const auto found =
        std::find_if(kinds.begin(), kinds.end(), [&](const LayerExperts* kind) { return *kind == layer; });
    classes.push_back(static_cast<size_t>(found - kinds.begin()));
    if (found == kinds.end()) kinds.push_back(&layer);
  }
  return classes;
}

}  // namespace cadre::model
