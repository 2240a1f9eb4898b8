#pragma once
// The shape of the network: `model` and `recompute` of a config; moe_settings.h has `moe`.

#include "core/config/fields.h"
#include "kernels/activation.h"
#include "model/moe_settings.h"

namespace cadre::model {

struct ModelSettings {
  int64_t hidden_size = 256;
  int64_t num_layers = 4;
  int64_t num_heads = 4;
  config::Auto<int64_t> num_kv_heads;     // auto: num_heads
  config::Auto<int64_t> head_dim;         // auto: hidden_size / num_heads
  config::Auto<int64_t> ffn_hidden_size;  // dense layers; auto: 8/3 hidden_size, to a multiple of 32
  kernels::Activation activation = kernels::Activation::kSwiGlu;
  config::Auto<int64_t> vocab_size;  // auto: the tokenizer's
  bool tie_embeddings = true;
  bool qk_norm = false;
  double rope_theta = 10000;
  double norm_eps = 1e-6;
  double init_std = 0.02;

  int64_t kv_heads() const { return num_kv_heads.value_or(num_heads); }
  int64_t head_size() const { return head_dim.value_or(hidden_size / num_heads); }
  int64_t dense_ffn() const { return ffn_hidden_size.value_or((hidden_size * 8 / 3 + 31) / 32 * 32); }
};

enum class RecomputeMode { kNone, kSelective, kFull };
enum class RecomputePart { kNorms, kAttention, kExpertActivations };

struct RecomputeSettings {
  RecomputeMode mode = RecomputeMode::kNone;
  std::vector<RecomputePart> parts = {RecomputePart::kNorms, RecomputePart::kExpertActivations};

  bool layers() const { return mode == RecomputeMode::kFull; }
  bool part(RecomputePart part) const;
};

// Everything that shapes a network; `vocab_size` and the rest resolved.
struct NetworkSettings {
  ModelSettings model;
  MoeSettings moe;
  RecomputeSettings recompute;

  int64_t expert_ffn() const { return moe.ffn_hidden_size.value_or(model.dense_ffn()); }
};

}  // namespace cadre::model

template <>
struct cadre::config::EnumNames<cadre::model::RecomputeMode> {
  using enum cadre::model::RecomputeMode;
  static constexpr EnumName<cadre::model::RecomputeMode> values[] = {
      {kNone, "none"}, {kSelective, "selective"}, {kFull, "full"}};
};
template <>
struct cadre::config::EnumNames<cadre::model::RecomputePart> {
  using enum cadre::model::RecomputePart;
  static constexpr EnumName<cadre::model::RecomputePart> values[] = {
      {kNorms, "norms"}, {kAttention, "attention"}, {kExpertActivations, "expert_activations"}};
};

namespace cadre::config {
template <>
struct Schema<model::ModelSettings> {
  static void fields(Fields<model::ModelSettings>& f);
  static void check(const model::ModelSettings& s, Problems& problems);
};
template <>
struct Schema<model::RecomputeSettings> {
  static void fields(Fields<model::RecomputeSettings>& f);
};
}  // namespace cadre::config
