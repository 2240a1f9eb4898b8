#include "launch/bench/peer_case.h"

#include "launch/bench/random_batch.h"
#include "parallel/comm/self.h"

namespace cadre::launch {
namespace {

TrainerOptions trainer_options(const Settings& settings) {
  TrainerOptions options;
  options.total_steps = 100000;
  options.step.global_target_tokens = static_cast<double>(settings.batch.global_batch_size * settings.data.seq_length);
  return options;
}

}  // namespace

Settings peer_settings() {
  Settings s;
  s.model.hidden_size = 256;
  s.model.num_layers = 4;
  s.model.num_heads = 4;
  s.model.vocab_size = 256;
  s.model.tie_embeddings = false;
  s.moe.num_experts = 8;
  s.moe.top_k = 2;
  s.moe.ffn_hidden_size = 512;
  s.data.seq_length = 256;
  s.batch = {8, 8};
  return s;
}

PeerCase::PeerCase(Session& session)
    : self_(parallel::make_self_communicator()),
      mesh_(*self_, parallel::Layout{}),
      shard_(mesh_, settings_.network()),
      state_(session.context(), settings_.network(), shard_, settings_.optimizer, settings_.run.seed),
      trainer_(session.context(), state_, mesh_, trainer_options(settings_)) {}

double PeerCase::tokens() const { return trainer_options(settings_).step.global_target_tokens; }

double PeerCase::flops() { return state_.model().training_flops_per_token(settings_.data.seq_length) * tokens(); }

double PeerCase::step() {
  const auto next = [this] {
    return random_batch(rng_, *settings_.batch.micro_batch_size.value, settings_.data.seq_length,
                        *settings_.model.vocab_size.value);
  };
  return trainer_.step(next, {}).metrics.seconds;
}

}  // namespace cadre::launch
