#pragma once
// Which experts every layer has: a config's groups, patterns and expressions, computed.
//
// Expressions see layer (from 0), num_layers, hidden_size, ffn_hidden_size (of moe, or what auto makes of it), top_k
// (of moe), moe.variables, and a group's loop variable.
//
// Routed experts of a layer have places from 0, in the order of its groups, a group's experts being neighbours: that is
// how everything that computes counts them. Each also has an id, which names it wherever names are (selectors,
// checkpoints, telemetry), and which it keeps when others come and go. Ids are the places until a layer is edited.

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
  int64_t first = 0;  // place of its first expert; shared ones have none
  int64_t count = 0;
  ExpertKind kind;
  std::string placement = "even";  // GroupPlacement
  bool operator==(const ExpertSet&) const = default;
};

struct LayerExperts {
  std::vector<ExpertSet> routed, shared;  // none of a dense layer; no set is empty
  int64_t top_k = 0;
  std::vector<int64_t> ids{};  // by place; empty: the places
  int64_t unused_id = -1;      // the first that nobody ever had; -1: experts()
  int64_t places = 0;          // of a token for experts: top_k; where experts choose tokens, all experts

  int64_t experts() const;    // routed
  int64_t computing() const;  // of these, those that are more than simple: ids below; others are on every rank
  bool is_moe() const { return !routed.empty(); }
  int64_t id_of(int64_t place) const { return ids.empty() ? place : ids[static_cast<size_t>(place)]; }
  int64_t place_of(int64_t id) const;  // -1: there is none
  int64_t next_id() const { return unused_id < 0 ? experts() : unused_id; }
  // Rules also know sets of shared experts, which are one wide network each, by places behind those of the routed.
  int64_t shared_place(size_t set) const { return experts() + static_cast<int64_t>(set); }
  bool is_shared(int64_t place) const { return place >= experts(); }
  const ExpertSet& set_of(int64_t place) const;
  // Neighbouring sets of one kind that compute count once: how many there are, and which an expert's is.
  int kinds_in_a_row() const;
  int kind_index(int64_t place) const;
  bool operator==(const LayerExperts&) const = default;
};

// The layer as moe.edited_layers has it: from that, an equal one is built.
EditedLayerSettings written_out(int64_t layer, const LayerExperts& experts);

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
  // Experts come and go, or have: selectors need not select any.
  bool changes() const { return changes_; }
  // Place of an MoE layer among those.
  size_t moe_index(int64_t layer) const { return moe_index_[static_cast<size_t>(layer)]; }
  // Of an MoE layer; 0 in a dense model.
  int64_t most_experts() const;
  // Of those that compute.
  int64_t fewest_computing() const;
  // Some groups are placed everywhere.
  bool has_copies() const;
  int64_t most_computing() const;
  // Numbers layers that are alike, in order of appearance.
  std::vector<size_t> classes() const;

 private:
  bool changes_;
  std::vector<LayerExperts> layers_;
  std::vector<int64_t> moe_layers_;
  std::vector<size_t> moe_index_;
};

}  // namespace cadre::model
