#include "launch/experts/events.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/config/fields.h"

namespace cadre::launch {
namespace {

using model::ExpertEventSettings;
using model::ExpertLayoutError;

config::Variables variables_of(const StepFacts& facts) {
  return {{"step", static_cast<double>(facts.step)},
          {"steps", static_cast<double>(facts.steps)},
          {"loss", facts.loss},
          {"validation_loss", facts.validation_loss}};
}

// What tells an event from others when a run goes on with another list of them.
std::string text_of(const ExpertEventSettings& event) {
  return fmt::format("{} {} where {} when {}", config::enum_name(event.kind), event.experts, event.where.text,
                     event.when.text);
}

// As a layout of one expert a layer, to see whether `where` can be computed.
ExpertFacts plain_facts(const model::ExpertLayout& layout) {
  ExpertFacts facts;
  for (const int64_t layer : layout.moe_layers())
    facts.loads.emplace_back(static_cast<size_t>(layout.layer(layer).experts()), 1.0);
  return facts;
}

}  // namespace

ExpertEvents::ExpertEvents(std::vector<ExpertEventSettings> events, const model::ExpertLayout& layout)
    : events_(std::move(events)), fired_(events_.size(), 0) {
  const ExpertFacts facts = plain_facts(layout);
  for (size_t i = 0; i < events_.size(); ++i) {
    due(i, {1, 1, 1, 1});
    const auto key = [&](const char* name) { return fmt::format("moe.events[{}].{}", i, name); };
    try {
      const model::ExpertSelector selector(events_[i].experts);
      if (events_[i].kind == model::ExpertOperationKind::kAdd && selector.group().empty())
        throw ConfigError("add wants a group that gets new experts, such as layers.*.experts.code");
    } catch (const ConfigError& failure) {
      throw ExpertLayoutError(key("experts"), failure.what());
    }
    try {
      choose_experts(events_[i], layout, facts, {{"step", 1}, {"steps", 1}});
    } catch (const ConfigError& failure) {
      throw ExpertLayoutError(key("where"), failure.what());
    }
  }
}

bool ExpertEvents::due(size_t index, const StepFacts& facts) const {
  const ExpertEventSettings& event = events_[index];
  if (event.times && fired_[index] >= *event.times) return false;
  config::Variables variables = variables_of(facts);
  variables["fired"] = static_cast<double>(fired_[index]);
  try {
    return config::evaluate_condition(event.when, variables);
  } catch (const ConfigError& failure) {
    throw ExpertLayoutError(fmt::format("moe.events[{}].when", index),
                            fmt::format("at step {}: {}", facts.step, failure.what()));
  }
}

bool ExpertEvents::ask_for_validation() const {
  return std::any_of(events_.begin(), events_.end(), [](const ExpertEventSettings& event) {
    return event.when.text.find("validation_loss") != std::string::npos;
  });
}

// Of events with equal texts the first is the first again.
std::vector<std::string> ExpertEvents::keys() const {
  std::vector<std::string> keys;
  std::map<std::string, int> seen;
  for (const ExpertEventSettings& event : events_) {
    const std::string text = text_of(event);
    keys.push_back(fmt::format("{} #{}", text, ++seen[text]));
  }
  return keys;
}

nlohmann::json ExpertEvents::state() const {
  nlohmann::json state = nlohmann::json::object();
  for (size_t i = 0; i < events_.size(); ++i) state[keys()[i]] = fired_[i];
  return state;
}

void ExpertEvents::restore(const nlohmann::json& state) {
  for (size_t i = 0; i < events_.size(); ++i) fired_[i] = state.value(keys()[i], int64_t{0});
}

}  // namespace cadre::launch
