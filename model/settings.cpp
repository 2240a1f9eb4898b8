#include "model/settings.h"

#include <fmt/core.h>

#include <algorithm>

namespace cadre::model {

bool RecomputeSettings::part(RecomputePart part) const {
  if (mode != RecomputeMode::kSelective) return false;
  return std::find(parts.begin(), parts.end(), part) != parts.end();
}

}  // namespace cadre::model

namespace cadre::config {

void Schema<model::ModelSettings>::fields(Fields<model::ModelSettings>& f) {
  using S = model::ModelSettings;
  f.about("The decoder-only transformer: RMSNorm, rotary embeddings, grouped-query attention.");
  f.add("hidden_size", &S::hidden_size, "Width of the residual stream").min(1);
  f.add("num_layers", &S::num_layers, "Transformer layers").min(1);
  f.add("num_heads", &S::num_heads, "Query heads").min(1);
  f.add("num_kv_heads", &S::num_kv_heads, "Key and value heads; divides num_heads; auto: num_heads").min(1);
  f.add("head_dim", &S::head_dim, "Width of a head, even; auto: hidden_size / num_heads").min(2);
  f.add("ffn_hidden_size", &S::ffn_hidden_size, "Hidden width of dense layers; auto: 8/3 hidden_size").min(1);
  f.add("activation", &S::activation, "Of experts and dense layers");
  f.add("vocab_size", &S::vocab_size, "Rows of the embedding; auto: the tokenizer's vocabulary").min(2);
  f.add("tie_embeddings", &S::tie_embeddings, "Use the embedding as output layer");
  f.add("qk_norm", &S::qk_norm, "RMSNorm on each query and key head");
  f.add("rope_theta", &S::rope_theta, "Base of the rotary frequencies").above(1);
  f.add("norm_eps", &S::norm_eps, "Epsilon of RMSNorm").above(0);
  f.add("init_std", &S::init_std,
        "Standard deviation of initial weights; output projections get 1/sqrt(2 layers) of it")
      .above(0);
}

void Schema<model::ModelSettings>::check(const model::ModelSettings& s, Problems& problems) {
  if (s.head_dim.is_auto() && s.hidden_size % s.num_heads != 0) {
    problems.add("num_heads", fmt::format("{} does not divide hidden_size {}; set head_dim, or another num_heads",
                                          s.num_heads, s.hidden_size));
  }
  if (s.num_heads % s.kv_heads() != 0) {
    problems.add("num_kv_heads", fmt::format("{} does not divide num_heads {}", s.kv_heads(), s.num_heads));
  }
  if (s.head_size() % 2 != 0) {
    problems.add("head_dim", fmt::format("{} is odd; rotary embeddings rotate pairs", s.head_size()));
  }
}

void Schema<model::RecomputeSettings>::fields(Fields<model::RecomputeSettings>& f) {
  using S = model::RecomputeSettings;
  f.about("Gradient checkpointing: what the backward computes again instead of keeping. Bits do not change.");
  f.add("mode", &S::mode, "Nothing, the named parts, or whole layers").shorthand();
  f.add("parts", &S::parts, "What `selective` recomputes");
}

}  // namespace cadre::config
