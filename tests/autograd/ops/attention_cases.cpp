// Rotary embedding and attention.

#include <algorithm>
#include <cmath>

#include "tests/autograd/op_cases.h"

namespace cadre::autograd::testing {
namespace {

CaseInput rotary_table(int64_t positions, int64_t head_dim) {
  CaseInput table = constant(normal(Shape{positions, head_dim}, 0));
  const int64_t half = head_dim / 2;
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * double(i) / double(head_dim));
      table.reals[static_cast<size_t>(p * head_dim + i)] = static_cast<float>(std::cos(angle));
      table.reals[static_cast<size_t>(p * head_dim + half + i)] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

// Positions that restart, as at document boundaries.
OpCase rotary(const char* name, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, bool has_norm) {
  std::vector<int64_t> positions;
  for (int64_t t = 0; t < tokens; ++t) positions.push_back(t % 5);
  const kernels::RotaryShape shape{heads, kv_heads, head_dim, 1e-5};
  const CaseInput q = has_norm ? normal(Shape{head_dim}, 2, 0.5, 1) : absent();
  const CaseInput k = has_norm ? normal(Shape{head_dim}, 3, 0.5, 1) : absent();
  return {name,
          maker<Rotary>(shape, has_norm),
          {normal(Shape{tokens, (heads + 2 * kv_heads) * head_dim}, 1), i32(Shape{tokens}, positions),
           rotary_table(5, head_dim), q, k},
          {}};
}

kernels::AttentionShape attention_shape(int64_t batch, int64_t length, int64_t heads, int64_t kv_heads, int64_t d) {
  return {batch, length, length, length, heads, kv_heads, d, 1.0 / std::sqrt(static_cast<double>(d))};
}

// `documents`: the first position of the token's document, for each token of one sequence; empty: none.
OpCase attention(const char* name, kernels::AttentionShape shape, std::vector<int64_t> documents = {}) {
  const int64_t tokens = shape.batch * shape.queries;
  CaseInput start = absent();
  if (!documents.empty()) {
    std::vector<int64_t> starts;
    for (int64_t b = 0; b < shape.batch; ++b) starts.insert(starts.end(), documents.begin(), documents.end());
    start = i32(Shape{tokens}, starts);
  }
  const Shape qkv{tokens, (shape.heads + 2 * shape.kv_heads) * shape.head_dim};
  return {name, maker<Attention>(shape), {normal(qkv, 1), start}, {}};
}

OpCase cached(const char* name, int64_t batch, int64_t queries, int64_t keys, int64_t stride) {
  kernels::AttentionShape shape = attention_shape(batch, queries, 4, 2, 6);
  shape.keys = keys;
  shape.key_stride = stride;
  const Shape cache{batch * stride, 2 * 6};
  return {name,
          maker<CachedAttention>(shape),
          {constant(normal(Shape{batch * queries, 8 * 6}, 1)), constant(normal(cache, 2)), constant(normal(cache, 3))},
          {}};
}

}  // namespace

template <>
std::vector<OpCase> cases<Rotary>() {
  return {rotary("one token", 1, 1, 1, 2, false),
          rotary("plain", 7, 3, 1, 6, false),
          rotary("plain past a vector", 11, 2, 2, 38, false),
          rotary("norm of one token", 1, 1, 1, 2, true),
          rotary("norm", 7, 4, 2, 6, true),
          rotary("norm past a vector", 37, 2, 1, 38, true),
          rotary("no tokens", 0, 2, 1, 4, false)};
}

template <>
std::vector<OpCase> cases<Attention>() {
  std::vector<int64_t> documents;
  for (int64_t t = 0; t < 67; ++t) documents.push_back(t < 3 ? 0 : t < 40 ? 3 : 40);
  return {attention("one token", attention_shape(1, 1, 1, 1, 2)),
          attention("grouped queries", attention_shape(2, 7, 4, 2, 6)),
          attention("one key head", attention_shape(1, 13, 3, 1, 5)),
          attention("every token a document", attention_shape(2, 5, 2, 2, 4), {0, 1, 2, 3, 4}),
          attention("documents", attention_shape(2, 7, 4, 2, 6), {0, 0, 0, 3, 3, 5, 5}),
          attention("past a tile", attention_shape(1, 67, 2, 1, 34)),
          attention("documents past a tile", attention_shape(1, 67, 2, 1, 34), documents)};
}

template <>
std::vector<OpCase> cases<CachedAttention>() {
  return {cached("first token", 1, 1, 1, 1), cached("one query", 2, 1, 5, 9), cached("prefill", 2, 7, 7, 11),
          cached("chunk", 3, 3, 40, 41)};
}

}  // namespace cadre::autograd::testing
