#include "model/flops.h"

#include <cmath>

namespace cadre::model {

namespace {

int64_t matrices_of(kernels::Activation activation) { return activation == kernels::Activation::kSwiGlu ? 3 : 2; }

// Parameters of the experts of all sets, by column of the hidden width. Of a constant expert: its vector, and the two
// rows that mix it with the token.
double parameters_of(const std::vector<ExpertSet>& sets) {
  double total = 0;
  for (const ExpertSet& set : sets) {
    const bool constant = set.kind.computation == ExpertComputation::kConstant;
    const int64_t of_one = constant ? 3 : matrices_of(set.kind.activation) * set.kind.ffn_hidden_size;
    total += static_cast<double>(set.count * of_one);
  }
  return total;
}

int64_t router_parameters(const RouterSettings& router, int64_t hidden, int64_t experts) {
  int64_t total = router.key_size > 0 ? router.key_size * (hidden + experts) : hidden * experts;
  if (router.hierarchical) total += hidden * router.groups;
  if (router.noise) total += hidden * experts;
  return total;
}

}  // namespace

int64_t active_parameters_of_layer(const NetworkSettings& settings, const LayerExperts& experts) {
  const ModelSettings& model = settings.model;
  const int64_t h = model.hidden_size;
  const int64_t attention = h * model.head_size() * (2 * model.num_heads + 2 * model.kv_heads());
  if (!experts.is_moe()) return attention + matrices_of(model.activation) * h * model.dense_ffn();
  const double chosen = static_cast<double>(experts.top_k) / static_cast<double>(experts.experts());
  const double columns = chosen * parameters_of(experts.routed) + parameters_of(experts.shared);
  return attention + router_parameters(settings.moe.router, h, experts.experts()) + h * std::llround(columns);
}

double layer_flops(const NetworkSettings& settings, const LayerExperts& experts, int64_t sequence_length) {
  const ModelSettings& model = settings.model;
  const double attention =
      2.0 * static_cast<double>(model.num_heads * model.head_size()) * static_cast<double>(sequence_length + 1);
  return 2.0 * static_cast<double>(active_parameters_of_layer(settings, experts)) + attention;
}

double head_flops(const NetworkSettings& settings) {
  return 2.0 * static_cast<double>(*settings.model.vocab_size.value * settings.model.hidden_size);
}

}  // namespace cadre::model
