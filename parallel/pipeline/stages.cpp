#include "parallel/pipeline/stages.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "core/error.h"

namespace cadre::parallel {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-12;  // relative

class Cutter {
 public:
  Cutter(const std::vector<LayerCost>& layers, int stages, LayerCost first, LayerCost last, EmptyStages empty)
      : layers_(layers.size()), stages_(static_cast<size_t>(stages)), first_(first), last_(last), empty_(empty) {
    sums_.push_back(0);
    for (const LayerCost& layer : layers) sums_.push_back(sums_.back() + layer.total());
  }

  std::vector<int64_t> cut() {
    limit_ = kInfinite;
    solve([](double stage, double rest) { return std::max(stage, rest); });
    limit_ = best_[0][0] * (1 + kRounding);
    solve([](double stage, double rest) { return stage * stage + rest; });
    std::vector<int64_t> counts;
    size_t begin = 0;
    for (size_t stage = 0; stage < stages_; ++stage) {
      counts.push_back(static_cast<int64_t>(next_[stage][begin] - begin));
      begin = next_[stage][begin];
    }
    return counts;
  }

 private:
  double cost(size_t stage, size_t begin, size_t end) const {
    return sums_[end] - sums_[begin] + (stage == 0 ? first_.total() : 0) + (stage + 1 == stages_ ? last_.total() : 0);
  }

  // best_[stage][begin]: the least combined cost of this stage and those after it when they share the layers from
  // `begin` on, no stage above limit_; next_: where this one ends then. A later end must be better by more than
  // rounding, so that earlier stages get fewer layers.
  template <class Combine>
  void solve(Combine combine) {
    best_.assign(stages_ + 1, std::vector<double>(layers_ + 1, kInfinite));
    next_.assign(stages_, std::vector<size_t>(layers_ + 1, layers_));
    best_[stages_][layers_] = 0;
    for (size_t stage = stages_; stage-- > 0;) {
      for (size_t begin = 0; begin <= layers_; ++begin) {
        for (size_t end = begin + (empty_ == EmptyStages::kRefuse ? 1 : 0); end <= layers_; ++end) {
          const double here = cost(stage, begin, end);
          if (here > limit_ || best_[stage + 1][end] == kInfinite) continue;
          const double value = combine(here, best_[stage + 1][end]);
          double& best = best_[stage][begin];
          if (best != kInfinite && value >= best * (1 - kRounding)) continue;
          best = value;
          next_[stage][begin] = end;
        }
      }
    }
  }

  size_t layers_, stages_;
  LayerCost first_, last_;
  EmptyStages empty_;
  std::vector<double> sums_;
  double limit_ = kInfinite;
  std::vector<std::vector<double>> best_;
  std::vector<std::vector<size_t>> next_;
};

void check_cost(const LayerCost& cost, const std::string& what) {
  if (cost.forward >= 0 && cost.backward >= 0 && std::isfinite(cost.total())) return;
  throw ConfigError(fmt::format("pipeline stages: cost of {} is {} forward, {} backward; wanted finite numbers >= 0",
                                what, cost.forward, cost.backward));
}

void check_counts(int64_t layers, int stages, EmptyStages empty) {
  if (stages < 1) throw ConfigError(fmt::format("pipeline stages: {}; wanted 1 or more", stages));
  if (empty == EmptyStages::kRefuse && layers < stages) {
    throw ConfigError(fmt::format("pipeline stages: {} for {} layers; wanted at most {}", stages, layers, layers));
  }
}

}  // namespace

std::vector<int64_t> balanced_stages(const std::vector<LayerCost>& layers, int stages, LayerCost first, LayerCost last,
                                     EmptyStages empty) {
  check_counts(static_cast<int64_t>(layers.size()), stages, empty);
  for (size_t i = 0; i < layers.size(); ++i) check_cost(layers[i], fmt::format("layer {}", i));
  check_cost(first, "the first stage's extra work");
  check_cost(last, "the last stage's extra work");
  return Cutter(layers, stages, first, last, empty).cut();
}

void check_stages(const std::vector<int64_t>& layers_per_stage, int64_t layers, int stages, EmptyStages empty) {
  check_counts(layers, stages, empty);
  const auto fail = [&](const std::string& problem) {
    const std::vector<LayerCost> equal(static_cast<size_t>(layers), LayerCost{1, 0});
    std::string choice;
    for (const int64_t count : balanced_stages(equal, stages, {}, {}, empty)) {
      choice += fmt::format("{}{}", choice.empty() ? "" : ", ", count);
    }
    throw ConfigError(fmt::format("layers_per_stage: {}; wanted for instance [{}]", problem, choice));
  };
  if (layers_per_stage.size() != static_cast<size_t>(stages)) {
    fail(fmt::format("{} numbers for {} stages", layers_per_stage.size(), stages));
  }
  for (size_t stage = 0; stage < layers_per_stage.size(); ++stage) {
    const int64_t count = layers_per_stage[stage];
    if (count < 0 || count > layers || (count == 0 && empty == EmptyStages::kRefuse)) {
      fail(fmt::format("stage {} has {} layers", stage, count));
    }
  }
  const int64_t sum = std::accumulate(layers_per_stage.begin(), layers_per_stage.end(), int64_t{0});
  if (sum != layers) fail(fmt::format("the sum is {}, but the model has {} layers", sum, layers));
}

double dearest_stage(const std::vector<int64_t>& layers_per_stage, const std::vector<LayerCost>& layers,
                     LayerCost first, LayerCost last) {
  double dearest = 0;
  size_t layer = 0;
  for (size_t stage = 0; stage < layers_per_stage.size(); ++stage) {
    double cost = (stage == 0 ? first.total() : 0) + (stage + 1 == layers_per_stage.size() ? last.total() : 0);
    for (int64_t i = 0; i < layers_per_stage[stage]; ++i) cost += layers[layer++].total();
    dearest = std::max(dearest, cost);
  }
  return dearest;
}

}  // namespace cadre::parallel
