#pragma once
// What the parts of a model need, found by running their own code: dry, for memory, work and traffic, or in earnest,
// for time.
//
// A model is blocks: the embedding, its layers, of which many are alike (model/expert_layout.h), and the output layer
// with the loss. A block's figures are of one micro-batch on one rank, experts chosen evenly.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "autograd/profiler.h"
#include "kernels/exec.h"
#include "model/settings.h"
#include "parallel/comm/metered.h"
#include "parallel/expert/dispatcher.h"

namespace cadre::launch {

enum class BlockKind { kEmbedding, kDenseLayer, kMoeLayer, kHead };
const char* name_of(BlockKind kind);

// By op and direction, as autograd::Profiler names them.
using OpWork = std::map<std::string, autograd::OpTime>;

struct BlockProfile {
  BlockKind kind = BlockKind::kDenseLayer;
  int64_t parameters = 0;         // elements of flat storage, padding included; experts not counted
  int64_t expert_parameters = 0;  // of the experts on this rank
  // Pieces of segments (parallel/data/ownership.h), apart and in all of the model's experts.
  int64_t pieces = 0, expert_pieces = 0, pieces_of_all_experts = 0;
  // Ranks of a group that hold an expert: harmonic mean over those here.
  double expert_copies = 1;
  // Elements of the largest parameter: gradients are reduced in buckets of one or more.
  int64_t largest = 0, largest_of_experts = 0;
  // Bytes of the weights' packed forms after the first micro-batch of a step, and after the second.
  int64_t packed_once = 0, packed = 0;
  // Bytes held from the forward to the backward, the block's input included; and what of them is left, with the
  // gradients that wait, between the two parts of a backward.
  int64_t kept = 0, deferred = 0;
  // The most bytes in use while the forward and the backward run, above `kept`.
  int64_t forward_peak = 0, backward_peak = 0;
  OpWork work;  // seconds are what they took, in earnest
  parallel::Traffic traffic;
};

struct ModelProfile {
  std::vector<BlockProfile> blocks;    // the embedding, layers that differ in order of appearance, the head
  std::vector<size_t> block_of_layer;  // as an index
  int64_t stream_bytes = 0;            // of what passes between layers
  int64_t shared_bytes = 0;            // once a rank: the rotary table

  const BlockProfile& embedding() const { return blocks.front(); }
  const BlockProfile& head() const { return blocks.back(); }
  const BlockProfile& layer(int64_t layer) const { return blocks[block_of_layer[static_cast<size_t>(layer)]]; }
  const BlockProfile* find(BlockKind kind) const;  // the first
};

struct ProfileShape {
  int64_t sequences = 1;  // of the micro-batch
  int64_t seq_length = 1;
  bool reset_at_documents = false;
  std::vector<parallel::Placement> placements{};  // of experts, by layer; none: all on one rank
  parallel::DispatchOptions dispatch{};
  Dtype dtype = Dtype::kF32;
};

// Dry. `network` has its vocabulary size. Of the rank with the most experts. `threads` are only passed on.
ModelProfile profile_model(const model::NetworkSettings& network, const ProfileShape& shape, const kernels::Exec& exec);

// One rank in earnest: `rounds` steps of three micro-batches, [0], [1] and [2], since the first two of a step pack
// weights; every op takes its median time. Memory and traffic are left out.
std::vector<ModelProfile> time_model(const model::NetworkSettings& network, const ProfileShape& shape,
                                     const kernels::Exec& exec, int rounds);

}  // namespace cadre::launch
