// Attention of one instruction set: see kernels/cpu/attention.h for panels and units. Forward and backward follow Dao,
// FlashAttention-2 (2023), algorithms 1 and 2, with one panel of queries against blocks of kKeyBlock keys.

#include "kernels/cpu/attention_panel.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

// A running maximum before any key: finite, so that differences never are inf - inf.
constexpr float kNothingSeen = -1e30f;

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Hands out parts of a scratch block, each a multiple of 64 bytes; at most 16 parts fit the slack for rounding.
constexpr int64_t kArenaSlack = 16 * 64;
struct Arena {
  float* next;
  float* take(int64_t floats) {
    float* part = next;
    next += round_up(floats, 16);
    return part;
  }
};

// The highest score that each lane sees; four chains, because a maximum has latency.
CADRE_INLINE Vec highest_score(const Panel& panel, const KeyBlock& block, int64_t vec, const float* column) {
  Vec highest[4] = {splat(kNothingSeen), splat(kNothingSeen), splat(kNothingSeen), splat(kNothingSeen)};
  const int64_t seen = block.seen(vec);
  int64_t i = 0;
  if (block.open) {
    for (; i + 4 <= seen; i += 4) {
      for (int64_t chain = 0; chain < 4; ++chain) {
        highest[chain] = max(load(column + (i + chain) * kLanes), highest[chain]);
      }
    }
  }
  for (; i < seen; ++i) {
    const Vec score = load(column + i * kLanes);
    highest[0] = max(select(panel.sees(vec, block.begin + i), score, splat(kNothingSeen)), highest[0]);
  }
  return max(max(highest[0], highest[1]), max(highest[2], highest[3]));
}

// Adds one block to the running softmax: scores become exp(score - maximum), masked ones 0. `rescale`: what the sums so
// far are worth under the new maximum.
CADRE_INLINE void softmax_block(const Panel& panel, const KeyBlock& block, float* scores, Vec* maximum, Vec* total,
                                Vec* rescale) {
  for (int64_t vec = 0; vec < panel.vecs; ++vec) {
    float* column = scores + vec * kWidth;
    const int64_t seen = block.seen(vec);
    const Vec highest = max(highest_score(panel, block, vec, column), maximum[vec]);
    rescale[vec] = exp(maximum[vec] - highest);
    maximum[vec] = highest;
    Vec sum = zero();
    for (int64_t i = 0; i < seen; ++i) {
      Vec p = exp(load(column + i * kLanes) - highest);
      if (!block.open) p = select(panel.sees(vec, block.begin + i), p, zero());
      store(column + i * kLanes, p);
      sum += p;
    }
    total[vec] = fma(total[vec], rescale[vec], sum);
  }
}

void forward_panel(const AttentionArgs& args, const Unit& unit, const Panel& panel, Arena arena) {
  const int64_t head_dim = args.head_dim;
  float* queries = arena.take(head_dim * kLanes);
  float* sums = arena.take(head_dim * kLanes);
  float* scores = arena.take(kKeyBlock * kLanes);
  float* lanes[kLanes];
  panel.pointers(args, args.q, lanes);
  transpose_to_panel(lanes, panel.count, panel.vecs, head_dim, args.scale, queries);
  const Rows keys{const_cast<float*>(unit.key_rows(args, args.k)), args.k.stride};
  const Rows values{const_cast<float*>(unit.key_rows(args, args.v)), args.v.stride};
  Vec maximum[2] = {splat(kNothingSeen), splat(kNothingSeen)};
  Vec total[2] = {};
  Vec rescale[2];
  Start start = Start::kZero;
  for (int64_t key = panel.key_begin; key < panel.key_end; key += kKeyBlock) {
    const KeyBlock block(panel, key, panel.key_end);
    score(panel, block, keys, head_dim, queries, scores);
    softmax_block(panel, block, scores, maximum, total, rescale);
    gather_values(panel, block, values, head_dim, scores, sums, start, rescale);
    start = Start::kScaledOutput;
  }
  if (start == Start::kZero) {
    for (int64_t i = 0; i < head_dim * kLanes; ++i) sums[i] = 0;
  }
  float logs[kLanes];
  Vec inverse[2];
  for (int64_t vec = 0; vec < 2; ++vec) {
    const IntVec nothing = total[vec] == zero();
    inverse[vec] = select(nothing, zero(), 1.0f / total[vec]);
    store(logs + vec * kWidth, maximum[vec] + log(total[vec]));
  }
  panel.pointers(args, args.out, lanes);
  transpose_from_panel(sums, inverse, panel.count, head_dim, lanes);
  for (int64_t i = 0; i < panel.count; ++i) args.lse.data[panel.row[i] * args.lse.stride + panel.head[i]] = logs[i];
}

int64_t forward_scratch(const AttentionArgs& args) {
  return static_cast<int64_t>(sizeof(float)) * (2 * args.head_dim + kKeyBlock) * kLanes + kArenaSlack;
}

void forward(const AttentionArgs& args, int64_t unit_index, int64_t panel_begin, int64_t panel_end, void* scratch) {
  const Unit unit(args, unit_index);
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const PanelRows next(args, Unit(args, unit_index + 1 < args.units ? unit_index + 1 : unit_index), p);
    prefetch<0>(args.q, next.begin, next.end, next.column, next.width);
    prefetch<1>(args.out, next.begin, next.end, next.column, next.width);
    for (const Rows& rows : {args.k, args.v}) {
      prefetch<0>(rows, next.key_begin, next.key_end, next.key_column, args.head_dim);
    }
    forward_panel(args, unit, Panel(args, unit, p), Arena{static_cast<float*>(scratch)});
  }
}

// A head's rows stand in scratch at a stride of whole vectors.
int64_t padded(int64_t head_dim) { return round_up(head_dim, kWidth); }

struct BackwardScratch {
  float *queries, *douts, *dqueries;  // panels [head_dim][kLanes]; queries carry the scale
  float *query_rows, *dout_rows;      // [kLanes][padded]
  float *weights, *dscores;           // [kKeyBlock][kLanes]
  float *dkeys, *dvalues;             // [keys][padded]
  float lse[kLanes];
  float delta[kLanes];  // sum over d of dout out

  BackwardScratch(const AttentionArgs& args, int64_t keys, Arena arena) {
    for (float** panel : {&queries, &douts, &dqueries}) *panel = arena.take(args.head_dim * kLanes);
    for (float** rows : {&query_rows, &dout_rows}) *rows = arena.take(padded(args.head_dim) * kLanes);
    for (float** block : {&weights, &dscores}) *block = arena.take(kKeyBlock * kLanes);
    for (float** grads : {&dkeys, &dvalues}) *grads = arena.take(padded(args.head_dim) * keys);
  }
};

int64_t backward_scratch(const AttentionArgs& args, int64_t keys) {
  return static_cast<int64_t>(sizeof(float)) *
             ((3 * args.head_dim + 2 * padded(args.head_dim) + 2 * kKeyBlock) * kLanes +
              2 * padded(args.head_dim) * keys) +
         kArenaSlack;
}

// to[lane][d] = factor * from[lane][d], zero beyond head_dim and in dead lanes.
void copy_rows(const float* const* from, const Panel& panel, int64_t head_dim, float factor, float* to) {
  const int64_t stride = padded(head_dim);
  for (int64_t lane = 0; lane < panel.vecs * kWidth; ++lane) {
    for (int64_t d = 0; d < stride; d += kWidth) {
      store(to + lane * stride + d, lane < panel.count ? load_up_to(from[lane] + d, head_dim - d) * factor : zero());
    }
  }
}

void load_panel(const AttentionArgs& args, const Panel& panel, bool want_rows, BackwardScratch& scratch) {
  const int64_t head_dim = args.head_dim;
  float* lanes[kLanes];
  float* outs[kLanes];
  panel.pointers(args, args.q, lanes);
  transpose_to_panel(lanes, panel.count, panel.vecs, head_dim, args.scale, scratch.queries);
  if (want_rows) copy_rows(lanes, panel, head_dim, args.scale, scratch.query_rows);
  panel.pointers(args, args.dout, lanes);
  transpose_to_panel(lanes, panel.count, panel.vecs, head_dim, 1.0f, scratch.douts);
  if (want_rows) copy_rows(lanes, panel, head_dim, 1.0f, scratch.dout_rows);
  panel.pointers(args, args.out, outs);
  for (int64_t i = 0; i < kLanes; ++i) {
    scratch.lse[i] = 0;
    scratch.delta[i] = 0;
    if (i >= panel.count) continue;
    scratch.lse[i] = args.lse.data[panel.row[i] * args.lse.stride + panel.head[i]];
    Vec sums = zero();
    for (int64_t d = 0; d < head_dim; d += kWidth) {
      sums = fma(load_up_to(lanes[i] + d, head_dim - d), load_up_to(outs[i] + d, head_dim - d), sums);
    }
    scratch.delta[i] = sum(sums);
  }
}

// weights: scores in, P out; dscores: dP in, dS = P (dP - delta) out.
CADRE_INLINE void softmax_backward(const Panel& panel, const KeyBlock& block, BackwardScratch& scratch) {
  for (int64_t vec = 0; vec < panel.vecs; ++vec) {
    const Vec lse = load(scratch.lse + vec * kWidth);
    const Vec delta = load(scratch.delta + vec * kWidth);
    for (int64_t i = 0; i < block.seen(vec); ++i) {
      float* weight = scratch.weights + i * kLanes + vec * kWidth;
      float* dscore = scratch.dscores + i * kLanes + vec * kWidth;
      Vec p = exp(load(weight) - lse);
      if (!block.open) p = select(panel.sees(vec, block.begin + i), p, zero());
      store(weight, p);
      store(dscore, p * (load(dscore) - delta));
    }
  }
}

// out[key][d] += sum over lanes of weights[key][lane] rows[lane][d], over all columns of padded rows.
void add_key_rows(const KeyBlock& block, int64_t vecs, const float* weights, const float* rows, int64_t stride,
                  float* out) {
  const int64_t split = block.split;
  const int64_t tail = block.count - split;
  const int64_t lanes = vecs * kWidth;
  const Left lower{weights, kLanes};
  const Left upper{weights + split * kLanes + kWidth, kLanes};
  int64_t d = 0;
  for (; d + kLanes <= stride; d += kLanes) {
    product<2, true>(split, lower, lanes, rows + d, stride, out + d, stride, Start::kOutput);
    product<2, true>(tail, upper, kWidth, rows + kWidth * stride + d, stride, out + split * stride + d, stride,
                     Start::kOutput);
  }
  if (d < stride) {
    product<1, true>(split, lower, lanes, rows + d, stride, out + d, stride, Start::kOutput);
    product<1, true>(tail, upper, kWidth, rows + kWidth * stride + d, stride, out + split * stride + d, stride,
                     Start::kOutput);
  }
}

struct BackwardRange {
  int64_t key_begin, key_end;
  bool want_dq, want_dkv;
};

void backward_panel(const AttentionArgs& args, const Unit& unit, const Panel& panel, const BackwardRange& range,
                    BackwardScratch& scratch) {
  const int64_t head_dim = args.head_dim;
  const int64_t stride = padded(head_dim);
  const int64_t begin = panel.key_begin > range.key_begin ? panel.key_begin : range.key_begin;
  const int64_t end = panel.key_end < range.key_end ? panel.key_end : range.key_end;
  if (begin < end) load_panel(args, panel, range.want_dkv, scratch);
  const Rows keys{const_cast<float*>(unit.key_rows(args, args.k)), args.k.stride};
  const Rows values{const_cast<float*>(unit.key_rows(args, args.v)), args.v.stride};
  Start start = Start::kZero;
  for (int64_t key = begin; key < end; key += kKeyBlock) {
    const KeyBlock block(panel, key, end);
    score(panel, block, keys, head_dim, scratch.queries, scratch.weights);
    score(panel, block, values, head_dim, scratch.douts, scratch.dscores);
    softmax_backward(panel, block, scratch);
    if (range.want_dkv) {
      const int64_t offset = (key - range.key_begin) * stride;
      add_key_rows(block, panel.vecs, scratch.weights, scratch.dout_rows, stride, scratch.dvalues + offset);
      add_key_rows(block, panel.vecs, scratch.dscores, scratch.query_rows, stride, scratch.dkeys + offset);
    }
    if (range.want_dq) gather_values(panel, block, keys, head_dim, scratch.dscores, scratch.dqueries, start, nullptr);
    start = Start::kOutput;
  }
  if (!range.want_dq) return;
  if (start == Start::kZero) {
    for (int64_t i = 0; i < head_dim * kLanes; ++i) scratch.dqueries[i] = 0;
  }
  float* lanes[kLanes];
  panel.pointers(args, args.dq, lanes);
  const Vec factors[2] = {splat(args.scale), splat(args.scale)};
  transpose_from_panel(scratch.dqueries, factors, panel.count, head_dim, lanes);
}

void store_key_rows(const AttentionArgs& args, const Unit& unit, const BackwardRange& range, const float* from,
                    const Rows& rows) {
  float* to = const_cast<float*>(unit.key_rows(args, rows));
  for (int64_t key = range.key_begin; key < range.key_end; ++key) {
    for (int64_t d = 0; d < args.head_dim; d += kWidth) {
      const float* row = from + (key - range.key_begin) * padded(args.head_dim);
      store_up_to(to + key * rows.stride + d, load(row + d), args.head_dim - d);
    }
  }
}

void backward(const AttentionArgs& args, int64_t unit_index, int64_t panel_begin, int64_t panel_end, int64_t key_begin,
              int64_t key_end, bool want_dq, bool want_dkv, void* memory) {
  const Unit unit(args, unit_index);
  const BackwardRange range{key_begin, key_end, want_dq, want_dkv};
  const int64_t keys = want_dkv ? key_end - key_begin : 0;
  BackwardScratch scratch(args, keys, Arena{static_cast<float*>(memory)});
  for (int64_t i = 0; i < keys * padded(args.head_dim); ++i) scratch.dkeys[i] = scratch.dvalues[i] = 0;
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const PanelRows next(args, Unit(args, unit_index + 1 < args.units ? unit_index + 1 : unit_index), p);
    prefetch<0>(args.q, next.begin, next.end, next.column, next.width);
    prefetch<0>(args.out, next.begin, next.end, next.column, next.width);
    prefetch<0>(args.dout, next.begin, next.end, next.column, next.width);
    prefetch<1>(args.dq, next.begin, next.end, next.column, next.width);
    prefetch<0>(args.k, next.key_begin, next.key_end, next.key_column, args.head_dim);
    prefetch<0>(args.v, next.key_begin, next.key_end, next.key_column, args.head_dim);
    prefetch<1>(args.dk, next.key_begin, next.key_end, next.key_column, args.head_dim);
    prefetch<1>(args.dv, next.key_begin, next.key_end, next.key_column, args.head_dim);
    backward_panel(args, unit, Panel(args, unit, p), range, scratch);
  }
  if (want_dkv) {
    store_key_rows(args, unit, range, scratch.dkeys, args.dk);
    store_key_rows(args, unit, range, scratch.dvalues, args.dv);
  }
}

}  // namespace

extern const AttentionTable kAttentionTable;
const AttentionTable kAttentionTable = {kLanes, forward_scratch, forward, backward_scratch, backward};

}  // namespace cadre::cpu::CADRE_ISA
