#include "launch/bench/peer_case.h"

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
  return trainer_.step([this] { return random_batch(); }, {}).metrics.seconds;
}

data::Batch PeerCase::random_batch() {
  data::Batch batch;
  batch.samples = static_cast<int>(settings_.batch.micro_batch_size);
  batch.seq_length = settings_.data.seq_length;
  const size_t count = static_cast<size_t>(tokens());
  const uint64_t vocabulary = static_cast<uint64_t>(*settings_.model.vocab_size.value);
  for (size_t i = 0; i < count; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(rng_.below(vocabulary)));
    batch.targets.push_back(static_cast<int32_t>(rng_.below(vocabulary)));
  }
  batch.segment_start.assign(count, 0);
  batch.target_tokens = static_cast<int64_t>(count);
  return batch;
}

}  // namespace cadre::launch
