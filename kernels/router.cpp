#include "kernels/router.h"

#include <algorithm>

#include "kernels/cpu/router.h"
#include "kernels/elementwise.h"
#include "kernels/reference/router.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

constexpr int64_t kGrain = 1024;
constexpr int64_t kTotalTokens = 64;  // of a block whose shares are summed in f32
constexpr int64_t kSumColumns = 64;   // one cache line of four vectors; the split does not change any sum

Rows rows_of(const TensorView& view) { return view ? Rows{view.as<float>(), view.row_stride} : Rows{nullptr, 0}; }
const float* floats(const TensorView& view) { return view ? view.as<float>() : nullptr; }
const double* doubles(const TensorView& view) { return view ? view.as<double>() : nullptr; }

bool is_matrix(const TensorView& view, int64_t rows, int64_t cols) {
  return view.rows() == rows && view.cols() == cols;
}
bool is_vector(const TensorView& view, int64_t elements) {
  return view.shape.elements() == elements && view.contiguous();
}
bool is_mask(const TensorView& mask, int64_t experts) {
  return !mask || (is_vector(mask, experts) && mask.dtype == Dtype::kF64);
}
bool divides(const TensorView& scopes, int64_t tokens, int64_t experts) {
  return scopes.cols() == experts && (tokens == 0 || (scopes.rows() > 0 && tokens % scopes.rows() == 0));
}

int64_t token_grain(int64_t experts) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, experts)); }

using ScoresKernel = decltype(cpu::RouterTable::softmax);
void scores(const Exec& exec, const char* op, ScoresKernel cpu::RouterTable::*kernel,
            decltype(&reference::router_softmax) reference_kernel, TensorView logits, TensorView mask, TensorView probs,
            TensorView lse) {
  const int64_t tokens = logits.rows(), experts = logits.cols();
  require(is_matrix(probs, tokens, experts) && is_vector(lse, tokens) && is_mask(mask, experts), op,
          {logits, mask, probs, lse});
  if (exec.dry) return;
  if (wants_reference(op, {logits, probs, lse})) return reference_kernel(logits, mask, probs, lse);
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const cpu::RouterScores task{rows_of(logits), doubles(mask), rows_of(probs), lse.as<float>(), experts};
  parallel_for(exec.threads, tokens, token_grain(experts),
               [&](int64_t begin, int64_t end) { (table.*kernel)(task, begin, end); });
}

}  // namespace

void router_softmax(const Exec& exec, TensorView logits, TensorView mask, TensorView probs, TensorView lse) {
  scores(exec, "router_softmax", &cpu::RouterTable::softmax, &reference::router_softmax, logits, mask, probs, lse);
}

void router_sigmoid(const Exec& exec, TensorView logits, TensorView mask, TensorView probs, TensorView lse) {
  scores(exec, "router_sigmoid", &cpu::RouterTable::sigmoid, &reference::router_sigmoid, logits, mask, probs, lse);
}

void router_softmax_backward(const Exec& exec, TensorView probs, TensorView dprobs, TensorView dlse,
                             TensorView dlogits) {
  const char* op = "router_softmax_backward";
  const int64_t tokens = probs.rows(), experts = probs.cols();
  require(is_matrix(dlogits, tokens, experts) && (!dprobs || is_matrix(dprobs, tokens, experts)) &&
              (!dlse || is_vector(dlse, tokens)),
          op, {probs, dprobs, dlse, dlogits});
  if (exec.dry) return;
  if (wants_reference(op, {probs, dprobs, dlse, dlogits})) {
    return reference::router_softmax_backward(probs, dprobs, dlse, dlogits);
  }
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const cpu::RouterScoresBackward task{{nullptr, 0},    nullptr,      rows_of(probs),   nullptr,
                                       rows_of(dprobs), floats(dlse), rows_of(dlogits), experts};
  parallel_for(exec.threads, tokens, token_grain(experts),
               [&](int64_t begin, int64_t end) { table.softmax_backward(task, begin, end); });
}

void router_sigmoid_backward(const Exec& exec, TensorView logits, TensorView mask, TensorView probs, TensorView lse,
                             TensorView dprobs, TensorView dlse, TensorView dlogits) {
  const char* op = "router_sigmoid_backward";
  const int64_t tokens = probs.rows(), experts = probs.cols();
  require(is_matrix(logits, tokens, experts) && is_mask(mask, experts) && is_vector(lse, tokens) &&
              is_matrix(dlogits, tokens, experts) && (!dprobs || is_matrix(dprobs, tokens, experts)) &&
              (!dlse || is_vector(dlse, tokens)),
          op, {logits, mask, probs, lse, dprobs, dlse, dlogits});
  if (exec.dry) return;
  if (wants_reference(op, {logits, probs, lse, dprobs, dlse, dlogits})) {
    return reference::router_sigmoid_backward(logits, mask, probs, lse, dprobs, dlse, dlogits);
  }
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const cpu::RouterScoresBackward task{rows_of(logits), doubles(mask), rows_of(probs),   lse.as<float>(),
                                       rows_of(dprobs), floats(dlse),  rows_of(dlogits), experts};
  parallel_for(exec.threads, tokens, token_grain(experts),
               [&](int64_t begin, int64_t end) { table.sigmoid_backward(task, begin, end); });
}

void scope_sums(const Exec& exec, TensorView values, TensorView sums) {
  const char* op = "scope_sums";
  const int64_t tokens = values.rows(), experts = values.cols(), scopes = sums.rows();
  require(divides(sums, tokens, experts), op, {values, sums});
  if (exec.dry) return;
  if (wants_reference(op, {values, sums})) return reference::scope_sums(values, sums);
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const int64_t of_scope = tokens / std::max<int64_t>(1, scopes);
  const int64_t parts = (experts + kSumColumns - 1) / kSumColumns;
  const int64_t part_elements = std::max<int64_t>(1, of_scope * std::min(experts, kSumColumns));
  parallel_for(
      exec.threads, scopes * parts, std::max<int64_t>(1, kGrain / part_elements), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t scope = i / parts, first = i % parts * kSumColumns;
          table.column_sums(rows_of(values), scope * of_scope, (scope + 1) * of_scope, first,
                            std::min(kSumColumns, experts - first), sums.as<float>() + scope * sums.row_stride + first);
        }
      });
}

void scope_sums_backward(const Exec& exec, TensorView dsums, TensorView dvalues, Write write) {
  const char* op = "scope_sums_backward";
  const int64_t tokens = dvalues.rows(), experts = dvalues.cols();
  require(divides(dsums, tokens, experts), op, {dsums, dvalues});
  if (exec.dry) return;
  const bool accumulate = write == Write::kAccumulate;
  if (wants_reference(op, {dsums, dvalues})) return reference::scope_sums_backward(dsums, dvalues, accumulate);
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const int64_t of_scope = std::max<int64_t>(1, tokens / std::max<int64_t>(1, dsums.rows()));
  parallel_for(exec.threads, tokens, token_grain(experts), [&](int64_t begin, int64_t end) {
    table.spread(rows_of(dsums), of_scope, experts, accumulate, rows_of(dvalues), begin, end);
  });
}

void score_totals(const Exec& exec, TensorView scores, TensorView totals) {
  const char* op = "score_totals";
  const int64_t tokens = scores.rows(), experts = scores.cols();
  require(is_vector(totals, experts + 1) && totals.dtype == Dtype::kF64, op, {scores, totals});
  if (exec.dry) return;
  if (wants_reference(op, {scores})) return reference::score_totals(scores, totals);
  const cpu::RouterTable& table = CADRE_SIMD_SELECT(exec.isa, kRouterTable);
  const int64_t blocks = (tokens + kTotalTokens - 1) / kTotalTokens, of_block = experts + 1;
  auto* const sums =
      static_cast<float*>(exec.threads.scratch(0, static_cast<size_t>(blocks * of_block) * sizeof(float)));
  parallel_for(exec.threads, blocks, std::max<int64_t>(1, token_grain(experts) / kTotalTokens),
               [&](int64_t begin, int64_t end) {
                 for (int64_t block = begin; block < end; ++block) {
                   table.score_totals(rows_of(scores), experts, block * kTotalTokens,
                                      std::min(tokens, (block + 1) * kTotalTokens), sums + block * of_block);
                 }
               });
  double* const result = totals.as<double>();
  std::fill_n(result, of_block, 0.0);
  for (int64_t i = 0; i < blocks * of_block; ++i) result[i % of_block] += static_cast<double>(sums[i]);
}

}  // namespace cadre::kernels
