#pragma once
// One panel of query rows: which rows its lanes are, and which keys they see. Only for attention.simd.cpp.

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_tile.h"

namespace cadre::cpu::CADRE_ISA {

inline constexpr int64_t kKeyBlock = 64;

// Where a unit's heads and rows begin.
struct Unit {
  int64_t sequence;
  int64_t kv_head;

  Unit(const AttentionArgs& args, int64_t unit) : sequence(unit / args.kv_heads), kv_head(unit % args.kv_heads) {}

  const float* key_rows(const AttentionArgs& args, const Rows& rows) const {
    return rows.data + sequence * args.key_stride * rows.stride + kv_head * args.head_dim;
  }
};

struct Panel {
  int64_t count;         // live lanes; the others repeat the last one's keys
  int64_t vecs;          // vectors with live lanes
  int64_t row[kLanes];   // of q, out
  int64_t head[kLanes];  // of q, out
  // Lane i sees keys first[i] .. last[i].
  int32_t first[kLanes];
  int32_t last[kLanes];
  int64_t key_begin, key_end;    // keys that some lane sees
  int64_t open_begin, open_end;  // keys that all lanes see
  int64_t lower_end;             // end of the keys that the first vector's lanes see

  Panel(const AttentionArgs& args, const Unit& unit, int64_t panel) {
    const int64_t rows = args.queries * args.group - panel * kLanes;
    count = rows < kLanes ? rows : kLanes;
    vecs = count > kWidth ? 2 : 1;
    int64_t query = panel * kLanes / args.group;
    int64_t member = panel * kLanes % args.group;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      row[lane] = unit.sequence * args.queries + query;
      head[lane] = unit.kv_head * args.group + member;
      last[lane] = static_cast<int32_t>(args.keys - args.queries + query);
      const int32_t start = args.segment_start != nullptr ? args.segment_start[row[lane]] : 0;
      first[lane] = start > 0 ? start : 0;
      if (lane + 1 < count && ++member == args.group) {
        member = 0;
        ++query;
      }
    }
    key_begin = open_begin = first[0];
    for (int64_t lane = 1; lane < kLanes; ++lane) {
      if (first[lane] < key_begin) key_begin = first[lane];
      if (first[lane] > open_begin) open_begin = first[lane];
    }
    key_end = last[kLanes - 1] + 1;
    open_end = last[0] + 1;
    lower_end = last[kWidth - 1] + 1;
  }

  bool open(int64_t begin, int64_t end) const { return begin >= open_begin && end <= open_end; }
  IntVec sees(int64_t vec, int64_t key) const {
    const IntVec keys = IntVec{} + static_cast<int32_t>(key);
    return (keys >= load(first + vec * kWidth)) & (keys <= load(last + vec * kWidth));
  }

  void pointers(const AttentionArgs& args, const Rows& rows, float** lane_rows) const {
    for (int64_t lane = 0; lane < count; ++lane) {
      lane_rows[lane] = rows.data + row[lane] * rows.stride + head[lane] * args.head_dim;
    }
  }
};

// Brings lines near that the next panel will read (or write): a head's row is a few lines, rows are far apart, and
// hardware does not follow that.
template <int kWrite>
CADRE_INLINE void prefetch(const Rows& rows, int64_t begin, int64_t end, int64_t column, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const float* p = rows.data + row * rows.stride + column;
    for (int64_t i = 0; i < width; i += 16) __builtin_prefetch(p + i, kWrite, 2);
  }
}

// Where a panel's rows and the keys at their positions stand.
struct PanelRows {
  int64_t begin, end;          // rows of q, out
  int64_t key_begin, key_end;  // rows of k, v
  int64_t column, width;       // of q, out
  int64_t key_column;

  PanelRows(const AttentionArgs& args, const Unit& unit, int64_t panel) {
    const int64_t first = panel * kLanes / args.group;
    const int64_t past = (panel + 1) * kLanes / args.group;
    begin = unit.sequence * args.queries + (first < args.queries ? first : args.queries);
    end = unit.sequence * args.queries + (past < args.queries ? past : args.queries);
    const int64_t shift = unit.sequence * (args.key_stride - args.queries) + args.keys - args.queries;
    key_begin = begin + shift;
    key_end = end + shift;
    width = args.group * args.head_dim;
    column = unit.kv_head * width;
    key_column = unit.kv_head * args.head_dim;
  }
};

// Keys [begin, end) of a panel; those from `split` on are above the diagonal for the first vector's lanes.
struct KeyBlock {
  int64_t begin;
  int64_t count;
  int64_t split;  // counted from begin
  bool open;

  KeyBlock(const Panel& panel, int64_t key, int64_t key_end)
      : begin(key),
        count(key_end - key < kKeyBlock ? key_end - key : kKeyBlock),
        split(count),
        open(panel.open(begin, begin + count)) {
    if (panel.vecs == 2 && panel.lower_end < begin + count) {
      split = panel.lower_end > begin ? panel.lower_end - begin : 0;
    }
  }
  // How many of the keys the lanes of a vector need.
  int64_t seen(int64_t vec) const { return vec == 0 ? split : count; }
};

// scores[key][lane] = sum over d of keys[key][d] panel[d][lane].
CADRE_INLINE void score(const Panel& panel, const KeyBlock& block, Rows keys, int64_t head_dim, const float* operand,
                        float* scores) {
  const Left left{keys.data + block.begin * keys.stride, keys.stride};
  if (panel.vecs == 1) {
    product<1, true>(block.count, left, head_dim, operand, kLanes, scores, kLanes, Start::kZero);
    return;
  }
  product<2, true>(block.split, left, head_dim, operand, kLanes, scores, kLanes, Start::kZero);
  product<1, true>(block.count - block.split, {left.data + block.split * left.stride, left.stride}, head_dim,
                   operand + kWidth, kLanes, scores + block.split * kLanes + kWidth, kLanes, Start::kZero);
}

// out[d][lane] = scale * out + sum over keys of values[key][d] weights[key][lane].
CADRE_INLINE void gather_values(const Panel& panel, const KeyBlock& block, Rows values, int64_t head_dim,
                                const float* weights, float* out, Start start, const Vec* scale) {
  const Left left{values.data + block.begin * values.stride, values.stride};
  if (panel.vecs == 1) {
    product<1, false>(head_dim, left, block.count, weights, kLanes, out, kLanes, start, scale);
    return;
  }
  product<2, false>(head_dim, left, block.split, weights, kLanes, out, kLanes, start, scale);
  if (block.split < block.count) {
    product<1, false>(head_dim, {left.data + block.split * left.stride, left.stride}, block.count - block.split,
                      weights + block.split * kLanes + kWidth, kLanes, out + kWidth, kLanes, Start::kOutput);
  }
}

}  // namespace cadre::cpu::CADRE_ISA
