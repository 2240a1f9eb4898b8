#include "kernels/choice.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/cpu/choice.h"
#include "kernels/elementwise.h"
#include "kernels/reference/choice.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

constexpr int64_t kGrain = 1024;

Rows rows_of(const TensorView& view) { return {view.as<float>(), view.row_stride}; }
bool is_matrix(const TensorView& view, int64_t rows, int64_t cols) {
  return view.rows() == rows && view.cols() == cols;
}
bool is_packed(const TensorView& view, int64_t rows, int64_t cols) {
  return is_matrix(view, rows, cols) && view.contiguous();
}
bool fits(int64_t k, int64_t experts) { return k >= 1 && k <= experts; }
int64_t token_grain(int64_t experts) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, experts)); }

void check_ids(const char* op, const TensorView& ids, int64_t experts) {
  const int32_t* id = ids.as<int32_t>();
  for (int64_t i = 0; i < ids.shape.elements(); ++i) {
    if (id[i] >= -1 && id[i] < experts) continue;
    throw InternalError(std::string(op) + ": expert id " + std::to_string(id[i]) + " of token " +
                        std::to_string(i / ids.cols()) + ", wanted 0.." + std::to_string(experts - 1) + " or -1");
  }
}

// The first k of a shuffle (Fisher and Yates); a token's draws begin at a block of its own.
void choose_at_random(const Choice& choice, int64_t experts, TensorView ids) {
  const int64_t k = ids.cols();
  Rng rng(choice.seed, RngPurpose::kRouting, choice.stream);
  std::vector<int32_t> all(static_cast<size_t>(experts));
  for (int64_t t = 0; t < ids.rows(); ++t) {
    rng.seek(static_cast<uint64_t>(choice.first_row + t) * kMostChoices);
    std::iota(all.begin(), all.end(), 0);
    for (int64_t j = 0; j < k; ++j) {
      const auto left = static_cast<uint64_t>(experts - j);
      std::swap(all[static_cast<size_t>(j)], all[static_cast<size_t>(j) + rng.below(left)]);
      ids.as<int32_t>()[t * k + j] = all[static_cast<size_t>(j)];
    }
  }
}

void choose_in_turn(int64_t experts, TensorView ids) {
  for (int64_t slot = 0; slot < ids.shape.elements(); ++slot) {
    ids.as<int32_t>()[slot] = static_cast<int32_t>(slot % experts);
  }
}

// visit(weight, place in the dense row), for every id that is one.
template <class T>
void each_place(TensorView weights, TensorView ids, TensorView dense, const auto& visit) {
  const int64_t k = ids.cols();
  for (int64_t slot = 0; slot < ids.shape.elements(); ++slot) {
    const int32_t id = ids.as<int32_t>()[slot];
    visit(weights.as<T>()[slot], id < 0 ? nullptr : dense.as<T>() + slot / k * dense.row_stride + id);
  }
}

template <class T>
void spread_all(TensorView weights, TensorView ids, TensorView dense) {
  each_place<T>(weights, ids, dense, [](const T& weight, T* place) {
    if (place != nullptr) *place = weight;
  });
}

template <class T>
void collect_all(TensorView dense, TensorView ids, TensorView weights) {
  each_place<T>(weights, ids, dense, [](T& weight, const T* place) { weight = place == nullptr ? 0 : *place; });
}

}  // namespace

void choose_experts(const Exec& exec, TensorView probs, TensorView bias, const Choice& choice, TensorView ids) {
  const char* op = "choose_experts";
  const int64_t tokens = probs.rows(), experts = probs.cols(), k = ids.cols();
  require(
      is_packed(ids, tokens, k) && fits(k, experts) && k <= kMostChoices && (!bias || bias.shape.elements() == experts),
      op, {probs, bias, ids});
  require(choice.groups >= 1 && experts % choice.groups == 0 && choice.kept_groups >= 1 &&
              choice.kept_groups <= choice.groups && k <= experts / choice.groups * choice.kept_groups,
          "choose_experts: groups of experts", {probs, ids});
  if (exec.dry) return;
  if (choice.kind == ChoiceKind::kRandom) return choose_at_random(choice, experts, ids);
  if (choice.kind == ChoiceKind::kBalanced) return choose_in_turn(experts, ids);
  if (wants_reference(op, {probs})) return reference::choose_experts(probs, bias, choice, ids);
  const cpu::ChoiceTask task{rows_of(probs), bias ? bias.as<double>() : nullptr, ids.as<int32_t>(), experts, k};
  parallel_for(exec.threads, tokens, token_grain(experts),
               [&](int64_t begin, int64_t end) { cpu::choose_experts(task, choice, begin, end); });
}

void choice_counts(const Exec& exec, TensorView ids, TensorView counts) {
  const int64_t scopes = counts.rows(), experts = counts.cols();
  require(counts.contiguous() && ids.contiguous() && (ids.rows() == 0 || (scopes > 0 && ids.rows() % scopes == 0)),
          "choice_counts", {ids, counts});
  if (exec.dry) return;
  int64_t* count = counts.as<int64_t>();
  std::fill_n(count, scopes * experts, 0);
  const int64_t slots = ids.shape.elements() / std::max<int64_t>(1, scopes);
  const int32_t* id = ids.as<int32_t>();
  for (int64_t scope = 0; scope < scopes; ++scope, count += experts) {
    for (int64_t i = 0; i < slots; ++i, ++id) {
      if (*id >= 0) ++count[*id];
    }
  }
}

void gate_weights(const Exec& exec, TensorView probs, TensorView ids, bool renormalise, double scale,
                  TensorView weights) {
  const char* op = "gate_weights";
  const int64_t tokens = probs.rows(), experts = probs.cols(), k = ids.cols();
  require(is_packed(ids, tokens, k) && fits(k, experts) && is_packed(weights, tokens, k), op, {probs, ids, weights});
  if (exec.dry) return;
  check_ids(op, ids, experts);
  if (wants_reference(op, {probs, weights})) return reference::gate_weights(probs, ids, renormalise, scale, weights);
  const cpu::GateTask task{rows_of(probs), ids.as<int32_t>(), renormalise, static_cast<float>(scale), experts, k};
  parallel_for(exec.threads, tokens, token_grain(k),
               [&](int64_t begin, int64_t end) { cpu::gate_weights(task, weights.as<float>(), begin, end); });
}

void gate_weights_backward(const Exec& exec, TensorView probs, TensorView ids, bool renormalise, double scale,
                           TensorView dweights, TensorView dprobs, Write write) {
  const char* op = "gate_weights_backward";
  const int64_t tokens = probs.rows(), experts = probs.cols(), k = ids.cols();
  require(is_packed(ids, tokens, k) && fits(k, experts) && is_packed(dweights, tokens, k) &&
              is_matrix(dprobs, tokens, experts),
          op, {probs, ids, dweights, dprobs});
  if (exec.dry) return;
  const bool accumulate = write == Write::kAccumulate;
  if (wants_reference(op, {probs, dweights, dprobs})) {
    return reference::gate_weights_backward(probs, ids, renormalise, scale, dweights, dprobs, accumulate);
  }
  const cpu::GateTask task{rows_of(probs), ids.as<int32_t>(), renormalise, static_cast<float>(scale), experts, k};
  parallel_for(exec.threads, tokens, token_grain(experts), [&](int64_t begin, int64_t end) {
    cpu::gate_weights_backward(task, dweights.as<float>(), rows_of(dprobs), accumulate, begin, end);
  });
}

void spread_weights(const Exec& exec, TensorView weights, TensorView ids, TensorView dense) {
  const char* op = "spread_weights";
  require(is_packed(weights, ids.rows(), ids.cols()) && ids.contiguous() && dense.rows() == ids.rows(), op,
          {weights, ids, dense});
  if (exec.dry) return;
  fill(exec, dense, 0);
  wants_reference(op, {weights, dense}) ? spread_all<double>(weights, ids, dense)
                                        : spread_all<float>(weights, ids, dense);
}

void spread_weights_backward(const Exec& exec, TensorView ddense, TensorView ids, TensorView dweights) {
  const char* op = "spread_weights_backward";
  require(is_packed(dweights, ids.rows(), ids.cols()) && ids.contiguous() && ddense.rows() == ids.rows(), op,
          {ddense, ids, dweights});
  if (exec.dry) return;
  wants_reference(op, {ddense, dweights}) ? collect_all<double>(ddense, ids, dweights)
                                          : collect_all<float>(ddense, ids, dweights);
}

}  // namespace cadre::kernels
