#include "kernels/cross_entropy.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/reference/cross_entropy.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

constexpr int64_t kGrain = 4096;

Rows rows_of(const TensorView& view) { return {view.as<float>(), view.row_stride}; }

bool is_vector(const TensorView& view, int64_t elements) {
  return view.shape.elements() == elements && view.contiguous();
}

void check_targets(const char* op, const TensorView& targets, int64_t vocabulary) {
  const int32_t* target = targets.as<int32_t>();
  const int64_t tokens = targets.shape.elements();
  for (int64_t t = 0; t < tokens; ++t) {
    if (target[t] >= vocabulary) {
      throw InternalError(std::string(op) + ": target " + std::to_string(target[t]) + " of token " + std::to_string(t) +
                          ", wanted less than the vocabulary's " + std::to_string(vocabulary));
    }
  }
}

int64_t token_grain(int64_t vocabulary) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, vocabulary)); }

}  // namespace

void cross_entropy_forward(const Exec& exec, TensorView logits, TensorView targets, TensorView losses, TensorView lse) {
  const char* op = "cross_entropy_forward";
  const int64_t tokens = logits.rows();
  const int64_t vocabulary = logits.cols();
  require(is_vector(targets, tokens) && is_vector(losses, tokens) && is_vector(lse, tokens) && vocabulary > 0, op,
          {logits, targets, losses, lse});
  check_targets(op, targets, vocabulary);
  if (exec.dry) return;
  if (wants_reference(op, {logits, losses, lse})) {
    return reference::cross_entropy_forward(logits, targets, losses, lse);
  }
  const cpu::CrossEntropyTable& table = CADRE_SIMD_SELECT(exec.isa, kCrossEntropyTable);
  parallel_for(exec.threads, tokens, token_grain(vocabulary), [&](int64_t begin, int64_t end) {
    table.forward(rows_of(logits), targets.as<int32_t>(), losses.as<float>(), lse.as<float>(), vocabulary, begin, end);
  });
}

void cross_entropy_backward(const Exec& exec, TensorView logits, TensorView targets, TensorView lse, TensorView dlosses,
                            TensorView dlogits) {
  const char* op = "cross_entropy_backward";
  const int64_t tokens = logits.rows();
  const int64_t vocabulary = logits.cols();
  require(is_vector(targets, tokens) && is_vector(dlosses, tokens) && is_vector(lse, tokens) &&
              dlogits.rows() == tokens && dlogits.cols() == vocabulary,
          op, {logits, targets, lse, dlosses, dlogits});
  check_targets(op, targets, vocabulary);
  if (exec.dry) return;
  if (wants_reference(op, {logits, lse, dlosses, dlogits})) {
    return reference::cross_entropy_backward(logits, targets, lse, dlosses, dlogits);
  }
  const cpu::CrossEntropyTable& table = CADRE_SIMD_SELECT(exec.isa, kCrossEntropyTable);
  parallel_for(exec.threads, tokens, token_grain(vocabulary), [&](int64_t begin, int64_t end) {
    table.backward(rows_of(logits), targets.as<int32_t>(), lse.as<float>(), dlosses.as<float>(), rows_of(dlogits),
                   vocabulary, begin, end);
  });
}

}  // namespace cadre::kernels
