#include "kernels/expert_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/elementwise.h"

namespace cadre::kernels {
namespace {

constexpr int64_t kGrain = 1024;

int64_t expert_grain(int64_t tokens) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, tokens)); }

// Of one expert, by token; NaN counts as -infinity. In the scores' own type, as tokens choose experts.
template <class T>
void keys_of(TensorView probs, TensorView bias, int64_t expert, std::vector<T>& keys) {
  const T added = bias ? static_cast<T>(bias.as<double>()[expert]) : T{0};
  keys.resize(static_cast<size_t>(probs.rows()));
  for (int64_t t = 0; t < probs.rows(); ++t) {
    const T key = probs.as<T>()[t * probs.row_stride + expert] + added;
    keys[static_cast<size_t>(t)] = std::isnan(key) ? -std::numeric_limits<T>::infinity() : key;
  }
}

// take(keys, chosen): the tokens of one expert, in any order.
template <class T>
void choose(const Exec& exec, TensorView probs, TensorView bias, TensorView ids, const auto& take) {
  const int64_t tokens = probs.rows(), experts = probs.cols();
  std::fill_n(ids.as<int32_t>(), tokens * experts, -1);
  parallel_for(exec.threads, experts, expert_grain(tokens), [&](int64_t begin, int64_t end) {
    std::vector<T> keys;
    std::vector<int32_t> chosen;
    for (int64_t e = begin; e < end; ++e) {
      keys_of(probs, bias, e, keys);
      chosen.clear();
      take(e, keys, chosen);
      for (const int32_t token : chosen) ids.as<int32_t>()[token * experts + e] = static_cast<int32_t>(e);
    }
  });
}

template <class T>
void choose_best(const Exec& exec, TensorView probs, TensorView bias, int64_t each, TensorView ids) {
  choose<T>(exec, probs, bias, ids, [&](int64_t, const std::vector<T>& keys, std::vector<int32_t>& chosen) {
    const auto key = [&](int32_t token) { return keys[static_cast<size_t>(token)]; };
    for (int32_t token = 0; token < static_cast<int32_t>(keys.size()); ++token) {
      if (key(token) > -std::numeric_limits<T>::infinity()) chosen.push_back(token);
    }
    if (static_cast<int64_t>(chosen.size()) <= each) return;
    const auto before = [&](int32_t a, int32_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; };
    std::nth_element(chosen.begin(), chosen.begin() + each, chosen.end(), before);
    chosen.resize(static_cast<size_t>(each));
  });
}

template <class T>
void choose_above(const Exec& exec, TensorView probs, TensorView bias, TensorView thresholds, TensorView ids) {
  choose<T>(exec, probs, bias, ids, [&](int64_t expert, const std::vector<T>& keys, std::vector<int32_t>& chosen) {
    for (size_t token = 0; token < keys.size(); ++token) {
      const double key = static_cast<double>(keys[token]);
      const bool above = std::isfinite(key) && key >= thresholds.as<double>()[expert];
      if (above) chosen.push_back(static_cast<int32_t>(token));
    }
  });
}

template <class T>
void lowest_of(TensorView probs, TensorView bias, TensorView ids, TensorView lowest) {
  std::vector<T> keys;
  for (int64_t e = 0; e < probs.cols(); ++e) {
    keys_of(probs, bias, e, keys);
    double least = std::numeric_limits<double>::infinity();
    for (int64_t t = 0; t < probs.rows(); ++t) {
      if (ids.as<int32_t>()[t * probs.cols() + e] >= 0) {
        least = std::min(least, static_cast<double>(keys[static_cast<size_t>(t)]));
      }
    }
    lowest.as<double>()[e] = least;
  }
}

bool fits(const TensorView& probs, const TensorView& bias, const TensorView& ids) {
  return ids.rows() == probs.rows() && ids.cols() == probs.cols() && ids.contiguous() &&
         (!bias || bias.shape.elements() == probs.cols());
}

}  // namespace

void choose_tokens(const Exec& exec, TensorView probs, TensorView bias, int64_t each, TensorView ids) {
  const char* op = "choose_tokens";
  require(fits(probs, bias, ids) && each >= 0, op, {probs, bias, ids});
  if (exec.dry) return;
  const auto kernel = wants_reference(op, {probs}) ? choose_best<double> : choose_best<float>;
  kernel(exec, probs, bias, each, ids);
}

void choose_tokens_above(const Exec& exec, TensorView probs, TensorView bias, TensorView thresholds, TensorView ids) {
  const char* op = "choose_tokens_above";
  require(fits(probs, bias, ids) && thresholds.shape.elements() == probs.cols(), op, {probs, bias, thresholds, ids});
  if (exec.dry) return;
  const auto kernel = wants_reference(op, {probs}) ? choose_above<double> : choose_above<float>;
  kernel(exec, probs, bias, thresholds, ids);
}

void lowest_keys(const Exec& exec, TensorView probs, TensorView bias, TensorView ids, TensorView lowest) {
  const char* op = "lowest_keys";
  require(fits(probs, bias, ids) && lowest.shape.elements() == probs.cols(), op, {probs, bias, ids, lowest});
  if (exec.dry) return;
  wants_reference(op, {probs}) ? lowest_of<double>(probs, bias, ids, lowest)
                               : lowest_of<float>(probs, bias, ids, lowest);
}

}  // namespace cadre::kernels
