#pragma once
// The decoder-only transformer, dense or mixture-of-experts.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "model/attention_block.h"
#include "model/feed_forward.h"
#include "model/stage.h"

namespace cadre::model {

inline constexpr const char* kEmbeddingName = "embedding.weight";
// Of a segment "layers.<layer>..."; -1: the embedding, or what follows the layers. Names are a contract
// (docs/formats.md).
int layer_of(const std::string& segment);

// One micro-batch, `batch` sequences of `length` tokens.
struct TokenBatch {
  int64_t batch = 1;
  int64_t length = 0;
  Tensor tokens;  // i32 [batch * length]
  Tensor
      segment_start;  // i32 [batch * length]: first position of the token's document in its sequence; empty: no resets
  int64_t past = 0;   // positions already in the caches
};

// The ids chosen in each MoE layer, to record a routing and to replay it.
using RoutingTrace = std::vector<Tensor>;

// Inference state: one cache a layer.
struct GenerationState {
  int64_t capacity = 0;
  std::vector<KvCache> layers;
};

struct TransformerOutput {
  autograd::Variable logits;           // [batch * length, vocabulary], of a last stage
  autograd::Variable stream;           // [batch * length, hidden], of any other: the next stage's input
  std::vector<RoutingResult> routing;  // one for each MoE layer of the stage
};

struct ForwardInputs {
  ForwardOptions options;
  const RoutingTrace* replay = nullptr;                  // by MoE layer of the whole model
  const std::vector<LayerControls>* controls = nullptr;  // likewise
  GenerationState* state = nullptr;
  size_t stage = 0;             // of those here
  autograd::Variable stream{};  // what the stage before gave; empty where the stage is the first
};

// For ForwardInputs::controls of a first step: all experts are alike. Biases only where the router updates them,
// thresholds only where experts choose tokens.
std::vector<LayerControls> first_controls(Allocator& allocator, const ExpertLayout& experts,
                                          const RouterSettings& router);

class Transformer {
 public:
  // Declares the parameters in `store`, of the experts those that this rank holds. settings.model.vocab_size must be
  // given.
  Transformer(autograd::ParameterStore& store, NetworkSettings settings);
  Transformer(autograd::ParameterStore& store, NetworkSettings settings, const ExpertShards& shards);
  // Some stages of it, in their order; what they share (a tied embedding) is declared once.
  Transformer(autograd::ParameterStore& store, NetworkSettings settings, const ExpertShards& shards,
              std::vector<StageSpan> stages);
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  TransformerOutput forward(autograd::Tape& tape, const TokenBatch& batch, const ForwardInputs& inputs);

  const NetworkSettings& settings() const { return settings_; }
  const std::vector<StageSpan>& stages() const { return stages_; }
  // How many of the stages here use a parameter: 1, but for an embedding that another one ties to its output.
  int stages_using(const autograd::Parameter& parameter) const;
  const ExpertLayout& experts() const { return experts_; }  // of the whole model, as all that follows
  // Matrix-product FLOPs of forward and backward for one token at this sequence length (Megatron's convention: 3x
  // forward, causal half of attention, top_k experts only).
  double training_flops_per_token(int64_t sequence_length) const;
  // Parameters that one token passes through in matrix products.
  int64_t active_parameters() const;
  // By MoE layer, f64 [experts] or empty: what chooses experts where no controls are given.
  void set_biases(std::vector<Tensor> biases) { biases_ = std::move(biases); }
  // Likewise, what experts go by that choose tokens. Without, they choose as in training.
  void set_thresholds(std::vector<Tensor> thresholds) { thresholds_ = std::move(thresholds); }
  GenerationState make_state(const autograd::Context& context, int64_t batch, int64_t capacity) const;

 private:
  struct Layer {
    autograd::Parameter* attention_norm;
    AttentionBlock attention;
    autograd::Parameter* ffn_norm;
    FeedForward ffn;
    Layer(autograd::ParameterStore& store, const NetworkSettings& settings, const LayerExperts& experts, int64_t index,
          const ExpertShard& shard);
  };
  // The residual stream, with the addition of the last branch still to be done (it is fused with the next norm).
  struct Residual {
    autograd::Variable x, branch;
  };
  struct Normed {
    autograd::Variable sum, y;
  };
  static void join(autograd::Tape& tape, Residual& residual);  // does it
  LayerControls controls_of(const ForwardInputs& inputs, int64_t index) const;
  void run_layer(autograd::Tape& tape, const SequenceLayout& layout, const ForwardInputs& inputs, int64_t index,
                 Residual& residual, std::vector<RoutingResult>& routing);
  // sum = x + branch (x alone when branch is empty), y = norm(sum).
  Normed residual_norm(autograd::Tape& tape, autograd::Variable x, autograd::Variable branch,
                       autograd::Parameter& weight) const;
  SequenceLayout layout_of(autograd::Tape& tape, const TokenBatch& batch, const GenerationState* state);

  NetworkSettings settings_;
  ExpertLayout experts_;
  std::vector<StageSpan> stages_;
  autograd::Parameter* embedding_ = nullptr;    // of a first stage
  std::vector<std::unique_ptr<Layer>> layers_;  // of the whole model; null where they are not here
  autograd::Parameter* final_norm_ = nullptr;   // of a last stage
  autograd::Parameter* head_ = nullptr;         // likewise; the embedding when tied
  std::vector<Tensor> biases_, thresholds_;     // by MoE layer; none: nowhere
  Tensor rotary_table_;                         // grown as needed
};

}  // namespace cadre::model
