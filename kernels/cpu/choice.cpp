#include "kernels/cpu/choice.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cadre::cpu {
namespace {

using kernels::Choice;
using kernels::ChoiceKind;
using kernels::GroupScore;

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// A sorted list of the best k so far; an expert enters only by beating the last one, so ties go to the lower id. The
// first k enter always: the ids are valid whatever the keys (NaN) are.
void best(const float* keys, int64_t count, int64_t k, int32_t* ids) {
  float kept[kernels::kMostChoices];
  for (int64_t e = 0; e < count; ++e) {
    const float key = keys[e];
    if (e >= k && !(key > kept[k - 1])) continue;
    int64_t place = e < k ? e : k - 1;
    for (; place > 0 && key > kept[place - 1]; --place) {
      kept[place] = kept[place - 1];
      ids[place] = ids[place - 1];
    }
    kept[place] = key;
    ids[place] = static_cast<int32_t>(e);
  }
}

float group_key(const float* keys, int64_t size, GroupScore score) {
  float first = kLowest, second = kLowest;
  for (int64_t e = 0; e < size; ++e) {
    second = std::max(second, std::min(first, keys[e]));
    first = std::max(first, keys[e]);
  }
  return score == GroupScore::kTopTwo && size > 1 ? first + second : first;
}

// Room for one token.
struct Keys {
  std::vector<float> of_experts, of_groups;
  std::vector<int32_t> groups;  // best first
};

void limit_groups(Keys& keys, const Choice& choice) {
  const int64_t experts = static_cast<int64_t>(keys.of_experts.size()), size = experts / choice.groups;
  float* const key = keys.of_experts.data();
  for (int64_t g = 0; g < choice.groups; ++g) {
    keys.of_groups[static_cast<size_t>(g)] = group_key(key + g * size, size, choice.group_score);
    keys.groups[static_cast<size_t>(g)] = static_cast<int32_t>(g);
  }
  std::stable_sort(keys.groups.begin(), keys.groups.end(), [&](int32_t a, int32_t b) {
    return keys.of_groups[static_cast<size_t>(a)] > keys.of_groups[static_cast<size_t>(b)];
  });
  for (int64_t i = choice.kept_groups; i < choice.groups; ++i) {
    std::fill_n(key + keys.groups[static_cast<size_t>(i)] * size, size, kLowest);
  }
}

void keep_top_p(const float* probs, int64_t experts, double top_p, int64_t k, int32_t* ids) {
  double all = 0, together = 0;
  for (int64_t e = 0; e < experts; ++e) all += probs[e];
  for (int64_t j = 0; j < k; ++j) {
    const bool enough = j > 0 && !(together < top_p * all);
    together += probs[ids[j]];
    if (enough) ids[j] = -1;
  }
}

float chosen_total(const GateTask& task, const float* probs, const int32_t* ids) {
  float total = 0;
  for (int64_t j = 0; j < task.k; ++j) total += ids[j] < 0 ? 0 : probs[ids[j]];
  return total;
}

}  // namespace

void choose_experts(const ChoiceTask& task, const Choice& choice, int64_t begin, int64_t end) {
  const bool plain = task.bias == nullptr && choice.groups == 1;
  Keys keys;
  if (!plain) keys.of_experts.resize(static_cast<size_t>(task.experts));
  keys.of_groups.resize(static_cast<size_t>(choice.groups));
  keys.groups.resize(static_cast<size_t>(choice.groups));
  for (int64_t t = begin; t < end; ++t) {
    const float* probs = task.probs.data + t * task.probs.stride;
    int32_t* ids = task.ids + t * task.k;
    for (int64_t e = 0; !plain && e < task.experts; ++e) {
      const float key = probs[e] + (task.bias == nullptr ? 0 : static_cast<float>(task.bias[e]));
      keys.of_experts[static_cast<size_t>(e)] = std::isnan(key) ? kLowest : key;
    }
    if (choice.groups > 1) limit_groups(keys, choice);
    best(plain ? probs : keys.of_experts.data(), task.experts, task.k, ids);
    if (choice.kind == ChoiceKind::kTopP) keep_top_p(probs, task.experts, choice.top_p, task.k, ids);
  }
}

void gate_weights(const GateTask& task, float* weights, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* probs = task.probs.data + t * task.probs.stride;
    const int32_t* ids = task.ids + t * task.k;
    const float total = task.renormalise ? chosen_total(task, probs, ids) : 1;
    for (int64_t j = 0; j < task.k; ++j) {
      const float weight = ids[j] < 0 || total == 0 ? 0 : probs[ids[j]] / total;
      weights[t * task.k + j] = weight * task.scale;
    }
  }
}

void gate_weights_backward(const GateTask& task, const float* dweights, Rows dprobs, bool accumulate, int64_t begin,
                           int64_t end) {
  const int64_t k = task.k;
  for (int64_t t = begin; t < end; ++t) {
    const float* probs = task.probs.data + t * task.probs.stride;
    const int32_t* ids = task.ids + t * k;
    const float* dw = dweights + t * k;
    float* to = dprobs.data + t * dprobs.stride;
    if (!accumulate) std::fill_n(to, task.experts, 0.0f);
    float total = 1, mean = 0;
    if (task.renormalise) {
      total = chosen_total(task, probs, ids);
      if (total == 0) continue;
      for (int64_t j = 0; j < k; ++j) mean += ids[j] < 0 ? 0 : probs[ids[j]] * dw[j];
      mean /= total;
    }
    for (int64_t j = 0; j < k; ++j) {
      if (ids[j] >= 0) to[ids[j]] += task.scale * ((dw[j] - mean) / total);
    }
  }
}

}  // namespace cadre::cpu
