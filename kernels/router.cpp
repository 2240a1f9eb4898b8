#include "kernels/router.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/cpu/router.h"
#include "kernels/elementwise.h"
#include "kernels/reference/router.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

constexpr int64_t kGrain = 1024;
constexpr int64_t kStatisticsColumns = 64;  // one cache line of four vectors; the split does not change any sum

Rows rows_of(const TensorView& view) { return view ? Rows{view.as<float>(), view.row_stride} : Rows{nullptr, 0}; }

bool is_matrix(const TensorView& view, int64_t rows, int64_t cols) {
  return view.rows() == rows && view.cols() == cols && view.contiguous();
}

bool is_vector(const TensorView& view, int64_t elements) {
  return view.shape.elements() == elements && view.contiguous();
}

bool divides(const TensorView& scopes, int64_t tokens, int64_t experts) {
  return scopes.cols() == experts && (tokens == 0 || (scopes.rows() > 0 && tokens % scopes.rows() == 0));
}

void check_ids(const char* op, const TensorView& ids, int64_t experts) {
  const int32_t* id = ids.as<int32_t>();
  const int64_t count = ids.shape.elements();
  for (int64_t i = 0; i < count; ++i) {
    if (id[i] < 0 || id[i] >= experts) {
      throw InternalError(std::string(op) + ": expert id " + std::to_string(id[i]) + " of token " +
                          std::to_string(i / ids.cols()) + ", wanted 0.." + std::to_string(experts - 1));
    }
  }
}

int64_t token_grain(int64_t experts) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, experts)); }

}  // namespace

void router_forward(const Exec& exec, TensorView logits, bool renormalise, TensorView replay, TensorView probs,
                    TensorView lse, TensorView ids, TensorView weights) {
  const char* op = "router_forward";
  const int64_t tokens = logits.rows();
  const int64_t experts = logits.cols();
  const int64_t k = ids.cols();
  require(probs.rows() == tokens && probs.cols() == experts && is_vector(lse, tokens) && is_matrix(ids, tokens, k) &&
              is_matrix(weights, tokens, k) && (!replay || is_matrix(replay, tokens, k)),
          op, {logits, replay, probs, lse, ids, weights});
  require(k >= 1 && k <= experts && k <= cpu::kMostRouterChoices, "router_forward: top-k", {logits, ids});
  if (replay) check_ids(op, replay, experts);
  if (exec.dry) return;
  if (wants_reference(op, {logits, probs, lse, weights})) {
    return reference::router_forward(logits, renormalise, replay, probs, lse, ids, weights);
  }
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const cpu::RouterForward router{rows_of(logits),     renormalise,     replay ? replay.as<int32_t>() : nullptr,
                                  rows_of(probs),      lse.as<float>(), ids.as<int32_t>(),
                                  weights.as<float>(), experts,         k};
  parallel_for(exec.threads, tokens, token_grain(experts),
               [&](int64_t begin, int64_t end) { table.forward(router, begin, end); });
}

void router_backward(const Exec& exec, TensorView probs, TensorView lse, TensorView ids, TensorView weights,
                     bool renormalise, TensorView dweights, TensorView balance, double z_scale, TensorView dlogits) {
  const char* op = "router_backward";
  const int64_t tokens = probs.rows();
  const int64_t experts = probs.cols();
  const int64_t k = ids.cols();
  require(dlogits.rows() == tokens && dlogits.cols() == experts && is_vector(lse, tokens) &&
              is_matrix(ids, tokens, k) && is_matrix(weights, tokens, k) && is_matrix(dweights, tokens, k) &&
              k <= cpu::kMostRouterChoices && (!balance || divides(balance, tokens, experts)),
          op, {probs, lse, ids, weights, dweights, balance, dlogits});
  if (exec.dry) return;
  if (wants_reference(op, {probs, lse, weights, dweights, balance, dlogits})) {
    return reference::router_backward(probs, lse, ids, renormalise, dweights, balance, z_scale, dlogits);
  }
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const cpu::RouterBackward router{rows_of(probs),
                                   lse.as<float>(),
                                   ids.as<int32_t>(),
                                   renormalise,
                                   dweights.as<float>(),
                                   rows_of(balance),
                                   balance && tokens > 0 ? tokens / balance.rows() : 1,
                                   static_cast<float>(z_scale),
                                   rows_of(dlogits),
                                   experts,
                                   k};
  parallel_for(exec.threads, tokens, token_grain(experts),
               [&](int64_t begin, int64_t end) { table.backward(router, begin, end); });
}

void router_statistics(const Exec& exec, TensorView probs, TensorView lse, TensorView ids, TensorView counts,
                       TensorView prob_sums, TensorView lse_squared) {
  const char* op = "router_statistics";
  const int64_t tokens = probs.rows();
  const int64_t experts = probs.cols();
  const int64_t k = ids.cols();
  const int64_t scopes = counts.rows();
  require(divides(counts, tokens, experts) && counts.contiguous() && prob_sums.rows() == scopes &&
              prob_sums.cols() == experts && is_vector(lse, tokens) && is_matrix(ids, tokens, k) &&
              is_vector(lse_squared, 1),
          op, {probs, lse, ids, counts, prob_sums, lse_squared});
  if (exec.dry) return;
  if (wants_reference(op, {probs, lse, prob_sums, lse_squared})) {
    return reference::router_statistics(probs, lse, ids, counts, prob_sums, lse_squared);
  }
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const int64_t scope_tokens = tokens / std::max<int64_t>(1, scopes);
  const int64_t parts = (experts + kStatisticsColumns - 1) / kStatisticsColumns;
  const int64_t part_elements = std::max<int64_t>(1, scope_tokens * std::min(experts, kStatisticsColumns));
  parallel_for(exec.threads, scopes * parts, std::max<int64_t>(1, kGrain / part_elements),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t scope = i / parts;
                   const int64_t first = i % parts * kStatisticsColumns;
                   table.column_sums(rows_of(probs), scope * scope_tokens, (scope + 1) * scope_tokens, first,
                                     std::min(kStatisticsColumns, experts - first),
                                     prob_sums.as<float>() + scope * prob_sums.row_stride + first);
                 }
               });
  int64_t* count = counts.as<int64_t>();
  std::fill_n(count, scopes * experts, 0);
  const int32_t* id = ids.as<int32_t>();
  for (int64_t scope = 0; scope < scopes; ++scope, count += experts) {
    for (int64_t i = 0; i < scope_tokens * k; ++i) ++count[*id++];
  }
  double squares = 0;
  for (int64_t t = 0; t < tokens; ++t) squares += static_cast<double>(lse.as<float>()[t]) * lse.as<float>()[t];
  *lse_squared.as<float>() = static_cast<float>(squares);
}

}  // namespace cadre::kernels
