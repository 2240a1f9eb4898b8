#include "launch/verify/variant.h"

#include <fmt/core.h>

#include <charconv>

#include "core/config/messages.h"
#include "core/error.h"

namespace cadre::launch {
namespace {

using parallel::ScheduleKind;

constexpr ScheduleKind kKinds[] = {ScheduleKind::k1F1B, ScheduleKind::kInterleaved, ScheduleKind::kZeroBubble,
                                   ScheduleKind::kGPipe};

ScheduleKind parse_schedule(const std::string& text) {
  std::vector<std::string> names;
  for (const auto& entry : config::EnumNames<ScheduleKind>::values) {
    if (entry.name == text) return entry.value;
    names.emplace_back(entry.name);
  }
  throw ConfigError("layout: no such schedule: " + config::in_quotes(text) + config::suggestion(text, names));
}

int parse_count(const std::string& key, const std::string& text) {
  int value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || value < 1) {
    throw ConfigError(fmt::format("layout: {}: got '{}'; wanted a number from 1 on", key, text));
  }
  return value;
}

// A layout as written stands for its own number of ranks.
parallel::Layout layout_of(const std::string& text) {
  const parallel::LayoutRequest request = text.empty() ? parallel::LayoutRequest{} : parallel::parse_layout(text);
  const int expert = request.expert.value_or(1), data = request.data.value_or(expert);
  const int pipeline = request.pipeline.value_or(1);
  return parallel::resolve_layout({data, pipeline, expert}, data * pipeline);
}

}  // namespace

std::string Variant::to_string() const {
  std::string text = layout.to_string();
  if (layout.pipeline > 1 || stages_per_rank > 1) text += fmt::format(",schedule={}", config::enum_name(schedule));
  if (stages_per_rank > 1) text += fmt::format(",stages_per_rank={}", stages_per_rank);
  return text;
}

Variant parse_variant(const std::string& text) {
  Variant variant;
  std::string of_layout;
  int stages_per_rank = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t equals = std::min(part.find('='), part.size());
    const std::string key = part.substr(0, equals), value = part.substr(std::min(part.size(), equals + 1));
    if (key == "schedule") {
      variant.schedule = parse_schedule(value);
    } else if (key == "stages_per_rank") {
      stages_per_rank = parse_count(key, value);
    } else {
      of_layout += (of_layout.empty() ? "" : ",") + part;
    }
  }
  variant.layout = layout_of(of_layout);
  const bool interleaved = variant.schedule == ScheduleKind::kInterleaved;
  variant.stages_per_rank = stages_per_rank > 0 ? stages_per_rank : interleaved ? 2 : 1;
  if (variant.stages_per_rank > 1 && !interleaved) {
    throw ConfigError(fmt::format("layout '{}': {} stages on a rank; wanted 1, or schedule=interleaved", text,
                                  variant.stages_per_rank));
  }
  return variant;
}

std::vector<Variant> all_variants(int least_ranks, int most_ranks, int64_t experts, int64_t layers,
                                  bool all_schedules) {
  std::vector<Variant> variants;
  size_t turn = 0;
  for (int ranks = least_ranks; ranks <= most_ranks; ++ranks) {
    for (const parallel::Layout& layout : parallel::all_layouts(ranks)) {
      if (layout.expert > 1 && experts == 0) continue;
      if (layout.pipeline == 1) {
        variants.push_back({layout});
        continue;
      }
      const size_t many = all_schedules ? std::size(kKinds) : 1;
      for (size_t i = 0; i < many; ++i) {
        Variant variant{layout, kKinds[turn++ % std::size(kKinds)], 1};
        if (variant.schedule == ScheduleKind::kInterleaved) variant.stages_per_rank = 2;
        if (variant.stages() > layers) variant = {layout};
        if (variant.stages() <= layers) variants.push_back(variant);
      }
    }
  }
  return variants;
}

}  // namespace cadre::launch
