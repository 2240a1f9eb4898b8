#pragma once
// Which experts every layer has: a config's groups, patterns and expressions, computed.
//
// Expressions see layer (from 0), num_layers, hidden_size, ffn_hidden_size (of moe, or what auto makes of it), top_k
// (of moe), moe.variables, and a group's loop variable. Routed experts have ids from 0 in a layer, in the order of its
// groups; a group's experts are consecutive.

#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "model/settings.h"

namespace cadre::model {

// What experts of a group have in common.
struct ExpertKind {
  int64_t ffn_hidden_size = 0;
  kernels::Activation activation = kernels::Activation::kSwiGlu;
  double init_std = 0;
  ExpertComputation computation = ExpertComputation::kFull;  // else there is no width or activation
  bool computes() const { return computation == ExpertComputation::kFull; }
  bool has_weights() const { return computes() || computation == ExpertComputation::kConstant; }
  bool operator==(const ExpertKind&) const = default;
};

struct ExpertSet {
  std::string name;   // of the group; empty for what num_experts and shared_experts say
  int64_t first = 0;  // id of its first expert; shared ones have none
  int64_t count = 0;
  ExpertKind kind;
  bool operator==(const ExpertSet&) const = default;
};

struct LayerExperts {
  std::vector<ExpertSet> routed, shared;  // none of a dense layer; no set is empty
  int64_t top_k = 0;
  int64_t places = 0;  // of a token for experts: top_k; where experts choose tokens, all experts

  int64_t experts() const;    // routed
  int64_t computing() const;  // of these, those that are more than simple: ids below; others are on every rank
  bool is_moe() const { return !routed.empty(); }
  const ExpertSet& set_of(int64_t expert) const;
  // Neighbouring sets of one kind that compute count once: how many there are, and the place of an expert's.
  int kinds_in_a_row() const;
  int kind_index(int64_t expert) const;
  bool operator==(const LayerExperts&) const = default;
};

// Names the key that is wrong, relative to the config ("moe.groups[1].count").
class ExpertLayoutError : public ConfigError {
 public:
  ExpertLayoutError(std::string key, const std::string& text)
      : ConfigError(key + ": " + text), key_(std::move(key)), text_(text) {}
  const std::string& key() const { return key_; }
  const std::string& text() const { return text_; }

 private:
  std::string key_, text_;
};

class ExpertLayout {
 public:
  // Throws ExpertLayoutError.
  explicit ExpertLayout(const NetworkSettings& network);

  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  const LayerExperts& layer(int64_t layer) const { return layers_[static_cast<size_t>(layer)]; }
  bool is_moe(int64_t layer) const { return this->layer(layer).is_moe(); }
  const std::vector<int64_t>& moe_layers() const { return moe_layers_; }
  // Place of an MoE layer among those.
  size_t moe_index(int64_t layer) const { return moe_index_[static_cast<size_t>(layer)]; }
  // Of an MoE layer; 0 in a dense model.
  int64_t most_experts() const;
  // Of those that compute.
  int64_t fewest_computing() const;
  int64_t most_computing() const;
  // Numbers layers that are alike, in order of appearance.
  std::vector<size_t> classes() const;

 private:
  std::vector<LayerExperts> layers_;
  std::vector<int64_t> moe_layers_;
  std::vector<size_t> moe_index_;
};

}  // namespace cadre::model
