#include "model/expert_selector.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/config/messages.h"

namespace cadre::model {

namespace {

std::string shared_name(const ExpertSet& set) { return set.name.empty() ? "shared" : set.name; }

}  // namespace

std::string name_of(const ExpertPlace& place, const ExpertLayout& layout) {
  const LayerExperts& experts = layout.layer(place.layer);
  if (!experts.is_shared(place.expert))
    return fmt::format("layers.{}.experts.{}", place.layer, experts.id_of(place.expert));
  return fmt::format("layers.{}.experts.{}", place.layer, shared_name(experts.set_of(place.expert)));
}

void ExpertSelector::refuse(const std::string& why) const {
  throw ConfigError(
      fmt::format("{}: {}; wanted such as layers.3.experts.17, layers.*.experts.code[0..3] or "
                  "layers.0..5.experts.*",
                  config::in_quotes(text_), why));
}

// "*", "7" or "4..7".
ExpertSelector::Run ExpertSelector::read_run(std::string_view text) const {
  if (text == "*") return {};
  const auto number = [&](std::string_view digits) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value < 0) {
      refuse(fmt::format("got {} where a number, a run a..b or * belongs", config::in_quotes(text)));
    }
    return value;
  };
  const size_t dots = text.find("..");
  if (dots == std::string_view::npos) {
    const int64_t one = number(text);
    return {one, one};
  }
  const Run run{number(text.substr(0, dots)), number(text.substr(dots + 2))};
  if (run.last < run.first) refuse(fmt::format("{} ends before it begins", text));
  return run;
}

void ExpertSelector::read_experts(std::string_view text) {
  const size_t bracket = text.find('[');
  const std::string_view name = text.substr(0, bracket);
  if (!config::is_identifier(name)) {
    experts_ = read_run(text);
    return;
  }
  group_ = name;
  one_of_group_ = bracket != std::string_view::npos;
  if (!one_of_group_) return;
  if (text.back() != ']') refuse("[ without ]");
  experts_ = read_run(text.substr(bracket + 1, text.size() - bracket - 2));
}

ExpertSelector::ExpertSelector(std::string_view text) : text_(text) {
  constexpr std::string_view kLayers = "layers.", kExperts = ".experts.";
  const size_t middle = text.find(kExperts);
  if (!text.starts_with(kLayers) || middle == std::string_view::npos || middle < kLayers.size()) {
    refuse("is no selector of experts");
  }
  layers_ = read_run(text.substr(kLayers.size(), middle - kLayers.size()));
  read_experts(text.substr(middle + kExperts.size()));
}

std::vector<ExpertPlace> ExpertSelector::find(const ExpertLayout& layout) const {
  std::vector<ExpertPlace> places;
  for (const int64_t layer : layout.moe_layers()) {
    const LayerExperts& experts = layout.layer(layer);
    for (const ExpertSet& set : experts.routed) {
      const bool fits = layers_.has(layer) && (group_.empty() || group_ == set.name);
      for (int64_t i = 0; fits && i < set.count; ++i) {
        if (experts_.has(group_.empty() ? experts.id_of(set.first + i) : i)) places.push_back({layer, set.first + i});
      }
    }
    for (size_t i = 0; i < experts.shared.size() && !one_of_group_; ++i) {
      if (layers_.has(layer) && group_ == shared_name(experts.shared[i]))
        places.push_back({layer, experts.shared_place(i)});
    }
  }
  return places;
}

std::vector<ExpertPlace> ExpertSelector::resolve(const ExpertLayout& layout) const {
  std::vector<ExpertPlace> places = find(layout);
  if (!places.empty() || layout.changes()) return places;
  std::set<std::string> groups;
  for (const int64_t layer : layout.moe_layers()) {
    for (const ExpertSet& set : layout.layer(layer).routed) {
      if (!set.name.empty()) groups.insert(set.name);
    }
    for (const ExpertSet& set : layout.layer(layer).shared) groups.insert(shared_name(set));
  }
  const bool unknown = !group_.empty() && !groups.contains(group_);
  const std::string hint = unknown ? config::suggestion(group_, {groups.begin(), groups.end()}) : "";
  throw ConfigError(
      fmt::format("{}: no expert has this name{}; the model has {} layers, {} of them with up to {} experts",
                  config::in_quotes(text_), hint, layout.layers(), layout.moe_layers().size(), layout.most_experts()));
}

}  // namespace cadre::model
