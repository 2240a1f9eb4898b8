#include "parallel/mesh/layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace cadre::parallel {
namespace {

// The nearest divisors of `whole` below and above `wanted`, as "2" or "2 or 4".
std::string nearest_divisors(int whole, int wanted) {
  int below = 0, above = 0;
  for (int divisor = 1; divisor <= whole; ++divisor) {
    if (whole % divisor != 0) continue;
    if (divisor <= wanted) below = divisor;
    if (divisor > wanted && above == 0) above = divisor;
  }
  if (above == 0) return std::to_string(below);
  if (below == 0) return std::to_string(above);
  return fmt::format("{} or {}", below, above);
}

int resolve_pipeline(const LayoutRequest& request, int ranks) {
  const int implied = request.data && ranks % *request.data == 0 ? ranks / *request.data : 1;
  const int pipeline = request.pipeline.value_or(implied);
  if (ranks % pipeline == 0) return pipeline;
  throw ConfigError(fmt::format("parallel.pipeline_parallel: {} stages for {} ranks; wanted a divisor, such as {}",
                                pipeline, ranks, nearest_divisors(ranks, pipeline)));
}

}  // namespace

std::string Layout::to_string() const { return fmt::format("dp={},ep={},pp={}", data, expert, pipeline); }

Layout resolve_layout(const LayoutRequest& request, int ranks) {
  Layout layout;
  layout.pipeline = resolve_pipeline(request, ranks);
  layout.data = request.data.value_or(ranks / layout.pipeline);
  if (layout.ranks() != ranks) {
    throw ConfigError(fmt::format(
        "parallel.data_parallel: {} x {} pipeline stages is {} ranks, but {} were started; wanted {} (or auto), or "
        "mpirun -n {}",
        layout.data, layout.pipeline, layout.ranks(), ranks, ranks / layout.pipeline, layout.ranks()));
  }
  layout.expert = request.expert.value_or(1);
  if (layout.data % layout.expert != 0) {
    throw ConfigError(
        fmt::format("parallel.expert_parallel: {} does not divide data_parallel, {} ({} ranks in {} stages); wanted {}",
                    layout.expert, layout.data, ranks, layout.pipeline, nearest_divisors(layout.data, layout.expert)));
  }
  return layout;
}

LayoutRequest parse_layout(const std::string& text) {
  LayoutRequest request;
  const auto fail = [&](const std::string& part) {
    throw ConfigError(fmt::format("layout '{}': '{}'; wanted parts like dp=4,ep=2,pp=2", text, part));
  };
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    const std::string key = part.substr(0, part.find('='));
    std::optional<int>* target = nullptr;
    if (key == "dp") target = &request.data;
    if (key == "ep") target = &request.expert;
    if (key == "pp") target = &request.pipeline;
    int value = 0;
    const char* const first = part.data() + std::min(part.size(), key.size() + 1);
    const auto [stop, error] = std::from_chars(first, part.data() + part.size(), value);
    const bool whole = error == std::errc() && stop == part.data() + part.size() && value >= 1;
    if (target == nullptr || target->has_value() || !whole) fail(part);
    *target = value;
  }
  return request;
}

std::vector<Layout> all_layouts(int ranks) {
  std::vector<Layout> layouts;
  for (int pipeline = 1; pipeline <= ranks; ++pipeline) {
    if (ranks % pipeline != 0) continue;
    const int data = ranks / pipeline;
    for (int expert = 1; expert <= data; ++expert) {
      if (data % expert == 0) layouts.push_back({data, pipeline, expert});
    }
  }
  return layouts;
}

const char* name_of(Axis axis) {
  switch (axis) {
    case Axis::kWorld: return "world";
    case Axis::kData: return "data";
    case Axis::kPipeline: return "pipeline";
    case Axis::kExpert: return "expert";
    case Axis::kExpertData: return "expert_data";
    case Axis::kEmbedding: return "embedding";
  }
  return "?";
}

Coordinates coordinates_of(const Layout& layout, int rank) {
  const int data = rank % layout.data;
  return {rank / layout.data, data, data % layout.expert, data / layout.expert};
}

int rank_at(const Layout& layout, int stage, int data) { return stage * layout.data + data; }

std::vector<int> group_of(const Layout& layout, Axis axis, int rank) {
  const Coordinates mine = coordinates_of(layout, rank);
  const auto at_an_end = [&](const Coordinates& c) { return c.stage == 0 || c.stage + 1 == layout.pipeline; };
  std::vector<int> group;
  for (int other = 0; other < layout.ranks(); ++other) {
    const Coordinates c = coordinates_of(layout, other);
    const bool same_stage = c.stage == mine.stage;
    const bool inside = axis == Axis::kWorld || (axis == Axis::kData && same_stage) ||
                        (axis == Axis::kPipeline && c.data == mine.data) ||
                        (axis == Axis::kExpert && same_stage && c.expert_data == mine.expert_data) ||
                        (axis == Axis::kExpertData && same_stage && c.expert == mine.expert) ||
                        (axis == Axis::kEmbedding && (other == rank || (at_an_end(c) && at_an_end(mine))));
    if (inside) group.push_back(other);
  }
  return group;
}

}  // namespace cadre::parallel
