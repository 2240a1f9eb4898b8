#pragma once
// Operations on experts, and what they have made of a layer: `moe.events` and `moe.edited_layers` of a config.

#include <optional>
#include <string>
#include <vector>

#include "core/config/expression.h"
#include "core/config/fields.h"
#include "model/expert_kind.h"

namespace cadre::model {

enum class ExpertOperationKind { kAdd, kClone, kSplit, kMerge, kPrune, kReinitialise };

// One operation, on all experts that are selected and for which `where` is true (launch/experts/operation.h).
struct ExpertOperationSettings {
  ExpertOperationKind kind = ExpertOperationKind::kClone;
  std::string experts;           // expert_selector.h
  config::Expression where = 1;  // of each expert
  std::optional<int64_t> count;  // of new ones: for each cloned or added; parts of a split; null: 1, of a split 2
  double noise = 0.01;           // of new ones, relative to the root mean square of a tensor
  std::optional<int64_t> top_k;  // of the layers from then on; null: as before
  std::optional<int64_t> ffn_hidden_size;           // add: of a group that is new; null: moe.ffn_hidden_size
  std::optional<kernels::Activation> activation{};  // likewise; null: model.activation
};

// An operation in training.
struct ExpertEventSettings : ExpertOperationSettings {
  config::Expression when;       // of the step
  std::optional<int64_t> times;  // at most so often; null: whenever it is true
};

// A layer's experts written out. Routed ones have ids of their own, which are never used again.
struct EditedGroupSettings {
  std::string name;
  std::vector<int64_t> ids;  // of routed ones
  int64_t count = 0;         // of shared ones
  ExpertComputation computation = ExpertComputation::kFull;
  std::string placement = "even";
  int64_t ffn_hidden_size = 0;  // of those that compute
  kernels::Activation activation = kernels::Activation::kSwiGlu;
  double init_std = 0.02;
};

struct EditedLayerSettings {
  int64_t layer = 0;
  int64_t top_k = 1;
  int64_t next_id = 0;  // of the next expert that is born
  std::vector<EditedGroupSettings> groups;
};

}  // namespace cadre::model

template <>
struct cadre::config::EnumNames<cadre::model::ExpertOperationKind> {
  using enum cadre::model::ExpertOperationKind;
  static constexpr EnumName<cadre::model::ExpertOperationKind> values[] = {
      {kAdd, "add"},     {kClone, "clone"}, {kSplit, "split"},
      {kMerge, "merge"}, {kPrune, "prune"}, {kReinitialise, "reinitialise"}};
};
namespace cadre::config {
template <>
struct Schema<model::ExpertEventSettings> {
  static void fields(Fields<model::ExpertEventSettings>& f);
};
template <>
struct Schema<model::EditedGroupSettings> {
  static void fields(Fields<model::EditedGroupSettings>& f);
};
template <>
struct Schema<model::EditedLayerSettings> {
  static void fields(Fields<model::EditedLayerSettings>& f);
};
}  // namespace cadre::config
