#pragma once
// What an operation makes of a model's experts: the layers that change, written out, and for each expert that is new
// where its tensors come from. Nothing is changed here; edited_source.h shows a state as it would be afterwards.

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "launch/checkpoint/source.h"
#include "model/expert_selector.h"
#include "model/settings.h"

namespace cadre::launch {

// Weights and moments are sums of what others have, cut and scaled; without any they begin anew.
struct ExpertRecipe {
  struct Source {
    std::string prefix;  // of its segments: "layers.3.moe.experts.17"
    double weight = 1;
    std::shared_ptr<StateSource> file{};  // that has them; null: the state itself
  };
  std::vector<Source> sources{};
  // Its row of the router's tensors: a sum of rows, by their places before.
  struct Row {
    int64_t place = 0;
    double weight = 1;
    std::shared_ptr<StateSource> file{};  // whose only row it is
  };
  std::vector<Row> rows{};
  int64_t part = 0, parts = 1;  // of the hidden units
  double output_scale = 1;      // of w2
  double noise = 0;             // on weights, relative to the root mean square of a tensor
  double row_noise = 0;         // on the router's row, likewise
};

struct ExpertEdit {
  std::vector<model::EditedLayerSettings> layers;               // those that change
  std::map<std::pair<int64_t, int64_t>, ExpertRecipe> recipes;  // by layer and id
  std::vector<std::string> notes;                               // a line for each that came, went or changed

  bool empty() const { return layers.empty(); }
  // These layers instead of what the config has of them.
  void apply(model::MoeSettings& moe) const;
};

// By MoE layer and place: 1 is fair.
using ExpertLoadTable = std::vector<std::vector<double>>;

// Of what each kind does:
//   add           `count` experts at the end of the group that `experts` names, in each of its layers; a group that a
//                 layer lacks is made. Weights begin anew; the router's row is that of the layer's busiest expert, with
//                 noise, so that tokens come.
//   clone         `count` copies of each chosen one, noise added, right behind it
//   split         the hidden units of each chosen one are dealt out to `count` new ones, in order, which take its place
//                 (in a group NAME_split where others of its group stay whole)
//   merge         the chosen ones of a layer, of one kind, become one: the mean by load
//   prune         the chosen ones go
//   reinitialise  each chosen one goes, and a new one as `add` makes them takes its place
//
// A softmax router gives copies and parts of an expert equal shares of what it had, so that cloning or splitting all
// experts of a layer by n, with n times the top_k and without noise, leaves what the layer computes as it was: outputs
// of parts are scaled by n. Where a router's weights are no shares (sigmoid, not renormalised), outputs of copies are
// divided instead.
//
// `chosen` come by layer, then place. Throws ConfigError when a layer cannot be so.
ExpertEdit plan_edit(const model::NetworkSettings& network, const model::ExpertOperationSettings& operation,
                     const std::vector<model::ExpertPlace>& chosen, const ExpertLoadTable& loads);

}  // namespace cadre::launch
