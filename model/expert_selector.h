#pragma once
// Names for sets of experts, in configs, commands and telemetry:
//
//   layers.3.experts.17           one expert, by its id
//   layers.*.experts.code         a group, in every layer that has it
//   layers.4..7.experts.code[0..3]  its first four experts, in four layers
//   layers.0.experts.8..15        a run of ids
//   layers.*.experts.*            all
//   layers.*.experts.always       a group of shared experts, as a whole (shared: those of shared_experts)

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "model/expert_layout.h"

namespace cadre::model {

struct ExpertPlace {
  int64_t layer = 0;
  int64_t expert = 0;  // its place in the layer; of a shared group LayerExperts::shared_place
  bool operator==(const ExpertPlace&) const = default;
};

// "layers.3.experts.17", by its id.
std::string name_of(const ExpertPlace& place, const ExpertLayout& layout);

class ExpertSelector {
 public:
  // Throws ConfigError showing what is wrong, and the forms that there are.
  explicit ExpertSelector(std::string_view text);

  // Both ends included.
  struct Run {
    int64_t first = 0, last = std::numeric_limits<int64_t>::max();
    bool has(int64_t value) const { return value >= first && value <= last; }
  };

  // By layer, then place. Throws ConfigError when no expert has such a name, with the nearest group, unless the layout
  // changes().
  std::vector<ExpertPlace> resolve(const ExpertLayout& layout) const;
  // Those that there are, which may be none.
  std::vector<ExpertPlace> find(const ExpertLayout& layout) const;
  const std::string& text() const { return text_; }
  const Run& layers() const { return layers_; }
  const std::string& group() const { return group_; }  // empty: experts by id

 private:
  [[noreturn]] void refuse(const std::string& why) const;
  Run read_run(std::string_view text) const;
  void read_experts(std::string_view text);

  std::string text_;
  Run layers_;
  std::string group_;
  Run experts_;                // ids, or places within the group
  bool one_of_group_ = false;  // or a run of it, not the whole
};

}  // namespace cadre::model
