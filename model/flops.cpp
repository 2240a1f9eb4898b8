#include "model/flops.h"

namespace cadre::model {

int64_t active_parameters_of_layer(const NetworkSettings& settings, int64_t layer) {
  const ModelSettings& model = settings.model;
  const int64_t h = model.hidden_size;
  const int64_t matrices = model.activation == kernels::Activation::kSwiGlu ? 3 : 2;
  const int64_t attention = h * model.head_size() * (2 * model.num_heads + 2 * model.kv_heads());
  if (!settings.is_moe(layer)) return attention + matrices * h * model.dense_ffn();
  const int64_t experts = settings.moe.top_k + settings.moe.shared_experts;
  return attention + h * settings.moe.num_experts + matrices * h * settings.expert_ffn() * experts;
}

double layer_flops(const NetworkSettings& settings, int64_t layer, int64_t sequence_length) {
  const ModelSettings& model = settings.model;
  const double attention =
      2.0 * static_cast<double>(model.num_heads * model.head_size()) * static_cast<double>(sequence_length + 1);
  return 2.0 * static_cast<double>(active_parameters_of_layer(settings, layer)) + attention;
}

double head_flops(const NetworkSettings& settings) {
  return 2.0 * static_cast<double>(*settings.model.vocab_size.value * settings.model.hidden_size);
}

}  // namespace cadre::model
