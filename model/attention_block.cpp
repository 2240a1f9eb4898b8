#include "model/attention_block.h"

#include <cmath>

#include "autograd/ops/attention.h"
#include "autograd/ops/linear.h"
#include "kernels/elementwise.h"

namespace cadre::model {

using autograd::Variable;

AttentionBlock::AttentionBlock(autograd::ParameterStore& store, const NetworkSettings& settings, int64_t layer)
    : settings_(settings) {
  const ModelSettings& model = settings.model;
  const std::string prefix = "layers." + std::to_string(layer) + ".attention";
  const int64_t hidden = model.hidden_size, d = model.head_size();
  const int64_t q = model.num_heads * d, kv = model.kv_heads() * d;
  qkv_ = &store.declare(prefix + ".qkv", Shape{q + 2 * kv, hidden}, model.init_std, true,
                        {{prefix + ".wq", Shape{q, hidden}, 0},
                         {prefix + ".wk", Shape{kv, hidden}, q * hidden},
                         {prefix + ".wv", Shape{kv, hidden}, (q + kv) * hidden}});
  if (model.qk_norm) {
    q_norm_ = &store.declare(prefix + ".q_norm.weight", Shape{d}, -1, false);
    k_norm_ = &store.declare(prefix + ".k_norm.weight", Shape{d}, -1, false);
  }
  const double output_std = model.init_std / std::sqrt(2.0 * static_cast<double>(model.num_layers));
  output_ = &store.declare(prefix + ".wo", Shape{hidden, q}, output_std, true);
}

Variable AttentionBlock::forward(autograd::Tape& tape, const SequenceLayout& layout, Variable x, KvCache* cache) const {
  const ModelSettings& model = settings_.model;
  const int64_t d = model.head_size();
  const auto weight = [](autograd::Parameter* p) { return p ? Variable::of(*p) : Variable(); };
  Variable qkv = tape.apply<autograd::GroupedLinear>({std::move(x), Variable::of(*qkv_), Variable()});
  Variable rotated = tape.apply<autograd::Rotary>(
      {std::move(qkv), layout.positions, layout.rotary_table, weight(q_norm_), weight(k_norm_)},
      kernels::RotaryShape{model.num_heads, model.kv_heads(), d, model.norm_eps}, model.qk_norm);
  Variable attended;
  if (cache != nullptr) {
    attended = cached(tape, layout, rotated, *cache);
  } else {
    const kernels::AttentionShape shape{layout.batch,
                                        layout.length,
                                        layout.length,
                                        layout.length,
                                        model.num_heads,
                                        model.kv_heads(),
                                        d,
                                        1.0 / std::sqrt(double(d))};
    const autograd::RecomputeScope scope(tape, settings_.recompute.part(RecomputePart::kAttention));
    attended = tape.apply<autograd::Attention>({std::move(rotated), layout.segment_start}, shape);
  }
  return tape.apply<autograd::GroupedLinear>({std::move(attended), Variable::of(*output_), Variable()});
}

Variable AttentionBlock::cached(autograd::Tape& tape, const SequenceLayout& layout, const Variable& rotated,
                                KvCache& cache) const {
  const ModelSettings& model = settings_.model;
  const int64_t d = model.head_size(), q = model.num_heads * d, kv = model.kv_heads() * d;
  const auto& exec = tape.context().exec;
  for (int64_t b = 0; b < layout.batch; ++b) {
    const TensorView fresh = rotated.tensor().slice(b * layout.length, (b + 1) * layout.length).view();
    const int64_t row = b * layout.capacity + layout.past;
    kernels::copy(exec, fresh.columns(q, q + kv), cache.keys.slice(row, row + layout.length));
    kernels::copy(exec, fresh.columns(q + kv, q + 2 * kv), cache.values.slice(row, row + layout.length));
  }
  const kernels::AttentionShape shape{layout.batch,
                                      layout.length,
                                      layout.past + layout.length,
                                      layout.capacity,
                                      model.num_heads,
                                      model.kv_heads(),
                                      d,
                                      1.0 / std::sqrt(double(d))};
  return tape.apply<autograd::CachedAttention>({rotated, Variable::leaf(cache.keys), Variable::leaf(cache.values)},
                                               shape);
}

}  // namespace cadre::model
