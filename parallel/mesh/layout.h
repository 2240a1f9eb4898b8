#pragma once
// How ranks are used: pure arithmetic, no communication.
//
// ranks = pipeline x data. Expert layers use other axes over the same ranks ("folding"; Liu et al., "MoE Parallel
// Folding", 2025): data = expert_data x expert. From the outermost: stage, expert_data, expert, so that an expert group
// is a run of neighbours, which a launcher puts on one node.

#include <optional>
#include <string>
#include <vector>

namespace cadre::parallel {

struct Layout {
  int data = 1;      // ranks that share out the global batch
  int pipeline = 1;  // stages
  int expert = 1;    // ranks that share out the experts of a layer; divides `data`

  int ranks() const { return data * pipeline; }
  int expert_data() const { return data / expert; }
  std::string to_string() const;  // "dp=4,ep=2,pp=2"
  bool operator==(const Layout&) const = default;
};

// What a config asks for; what is absent is chosen.
struct LayoutRequest {
  std::optional<int> data{}, pipeline{}, expert{};
};

// Throws ConfigError naming the key, the numbers and the nearest possible values. Absent: one stage, all ranks as data,
// one expert rank.
Layout resolve_layout(const LayoutRequest& request, int ranks);

// "dp=4,ep=2,pp=2", in any order. Throws ConfigError.
LayoutRequest parse_layout(const std::string& text);

// All layouts of a number of ranks, fewest stages first, then the smallest expert groups.
std::vector<Layout> all_layouts(int ranks);

// kEmbedding: the ranks of the first and of the last stage, which share an embedding that is also the output layer.
enum class Axis { kWorld, kData, kPipeline, kExpert, kExpertData, kEmbedding };
const char* name_of(Axis axis);

struct Coordinates {
  int stage = 0;
  int data = 0;         // 0 .. data - 1
  int expert = 0;       // 0 .. expert - 1
  int expert_data = 0;  // 0 .. expert_data() - 1
  bool operator==(const Coordinates&) const = default;
};
Coordinates coordinates_of(const Layout& layout, int rank);
int rank_at(const Layout& layout, int stage, int data);
// The ranks that differ from `rank` along this axis only, itself included, ascending. A rank between the first and the
// last stage is its embedding group's only member.
std::vector<int> group_of(const Layout& layout, Axis axis, int rank);

}  // namespace cadre::parallel
