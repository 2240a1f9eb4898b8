#include "autograd/ops/balance.h"

#include <cmath>
#include <numeric>

#include "autograd/ops/elements.h"
#include "kernels/choice.h"
#include "kernels/router.h"

namespace cadre::autograd {
namespace {

std::vector<double> row_of(TensorView view, int64_t row) {
  std::vector<double> values(static_cast<size_t>(view.cols()));
  for (int64_t e = 0; e < view.cols(); ++e) values[static_cast<size_t>(e)] = read_element(view, row, e);
  return values;
}

const TensorSpec kLoss{Dtype::kF64, Shape{1}};

// The fraction f_e of a scope's choices.
std::vector<double> fractions_of(TensorView counts, TensorView given, int64_t scope) {
  const int64_t experts = counts.cols();
  if (given) return {given.as<double>(), given.as<double>() + experts};
  const int64_t* row = counts.as<int64_t>() + scope * experts;
  const auto total = static_cast<double>(std::accumulate(row, row + experts, int64_t{0}));
  std::vector<double> fractions(static_cast<size_t>(experts), 0.0);
  for (int64_t e = 0; e < experts && total > 0; ++e) {
    fractions[static_cast<size_t>(e)] = static_cast<double>(row[e]) / total;
  }
  return fractions;
}

double slope(LoadMeasure measure, double load, double experts) {
  if (measure == LoadMeasure::kVariation) return 2 * (load - 1) / experts;
  return load > 1.5 ? 1 : load < 0.5 ? -1 : 0;
}

double value(LoadMeasure measure, double load, double experts) {
  if (measure == LoadMeasure::kVariation) return (load - 1) * (load - 1) / experts;
  return std::max(0.0, load - 1.5) + std::max(0.0, 0.5 - load);
}

struct Measured {
  double value = 0;
  std::vector<double> slopes;  // by S_e
};

// d/dS_e of F(r), r_e = E S_e / T: E / T (F'_e - sum_j F'_j S_j / T).
Measured measure_loads(LoadMeasure measure, const std::vector<double>& sums) {
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0), experts = static_cast<double>(sums.size());
  Measured result{0, std::vector<double>(sums.size(), 0.0)};
  if (!(total > 0)) return result;
  double mean = 0;
  for (size_t e = 0; e < sums.size(); ++e) {
    const double load = experts * sums[e] / total;
    result.value += value(measure, load, experts);
    result.slopes[e] = slope(measure, load, experts);
    mean += result.slopes[e] * sums[e] / total;
  }
  for (double& s : result.slopes) s = experts / total * (s - mean);
  return result;
}

}  // namespace

std::vector<TensorSpec> ScopeSums::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2 && scopes_ >= 1 && in[0].shape[0] % scopes_ == 0, in,
          "values [tokens, experts], tokens divisible by scopes");
  return {{in[0].dtype, Shape{scopes_, in[0].shape[1]}}};
}

void ScopeSums::forward(const Forward& f) const { kernels::scope_sums(f.context.exec, f.in[0], f.out[0]); }

void ScopeSums::backward_inputs(Backward& b) const {
  const Backward::Target dvalues = b.target(0);
  kernels::scope_sums_backward(b.context().exec, b.gradient(0), dvalues.view, dvalues.write);
}

std::vector<TensorSpec> ChoiceCounts::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2 && in[0].dtype == Dtype::kI32, in, "ids i32 [tokens, k]");
  return {{Dtype::kI64, Shape{scopes_, experts_}}};
}

void ChoiceCounts::forward(const Forward& f) const { kernels::choice_counts(f.context.exec, f.in[0], f.out[0]); }

std::vector<TensorSpec> SwitchLoss::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 3 && in[0].shape.rank() == 2 && in[1].shape == in[0].shape, in,
          "sums and counts [scopes, experts], fractions or none");
  require(in[2].shape.rank() == 0 || (in[2].shape == Shape{in[0].shape[1]} && in[0].shape[0] == 1), in,
          "fractions [experts], one scope");
  return {kLoss};
}

void SwitchLoss::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  const auto experts = static_cast<double>(f.in[0].cols());
  double loss = 0;
  for (int64_t s = 0; s < f.in[0].rows(); ++s) {
    const std::vector<double> sums = row_of(f.in[0], s), fractions = fractions_of(f.in[1], f.in[2], s);
    loss += std::inner_product(sums.begin(), sums.end(), fractions.begin(), 0.0);
  }
  *f.out[0].as<double>() = weight_.coef * experts * loss / weight_.global_tokens;
}

void SwitchLoss::backward_inputs(Backward& b) const {
  const TensorView dsums = b.target(0).view, counts = b.in(1), given = b.in(2);
  if (b.context().exec.dry) return;
  const int64_t experts = dsums.cols();
  const double scale =
      *b.gradient(0).as<double>() * weight_.coef * static_cast<double>(experts) / weight_.global_tokens;
  for (int64_t s = 0; s < dsums.rows(); ++s) {
    const std::vector<double> fractions = fractions_of(counts, given, s);
    for (int64_t e = 0; e < experts; ++e) write_element(dsums, s, e, scale * fractions[static_cast<size_t>(e)]);
  }
}

std::vector<TensorSpec> LoadLoss::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2, in, "sums [scopes, experts], before or none");
  require(in[1].shape.rank() == 0 || (in[1].shape == Shape{in[0].shape[1]} && in[0].shape[0] == 1), in,
          "before [experts], one scope");
  return {kLoss};
}

void LoadLoss::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  const double share = scope_tokens_ / weight_.global_tokens;
  double loss = 0;
  for (int64_t s = 0; s < f.in[0].rows(); ++s) {
    const std::vector<double> sums = row_of(f.in[0], s);
    const Measured measured = measure_loads(measure_, f.in[1] ? row_of(f.in[1], 0) : sums);
    loss += share * measured.value;
    if (f.in[1]) loss += std::inner_product(sums.begin(), sums.end(), measured.slopes.begin(), 0.0);
  }
  *f.out[0].as<double>() = weight_.coef * loss;
}

void LoadLoss::backward_inputs(Backward& b) const {
  const TensorView dsums = b.target(0).view, sums = b.in(0), before = b.in(1);
  if (b.context().exec.dry) return;
  const double share = before ? 1 : scope_tokens_ / weight_.global_tokens;
  const double scale = *b.gradient(0).as<double>() * weight_.coef * share;
  for (int64_t s = 0; s < dsums.rows(); ++s) {
    const Measured measured = measure_loads(measure_, before ? row_of(before, 0) : row_of(sums, s));
    for (int64_t e = 0; e < dsums.cols(); ++e) {
      write_element(dsums, s, e, scale * measured.slopes[static_cast<size_t>(e)]);
    }
  }
}

std::vector<TensorSpec> ZLoss::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() >= 1, in, "lse [tokens], or [tokens, n]");
  return {kLoss};
}

void ZLoss::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  double squares = 0;
  for (int64_t t = 0; t < f.in[0].shape.elements(); ++t) squares += std::pow(read_element(f.in[0], 0, t), 2);
  *f.out[0].as<double>() = weight_.coef * squares / weight_.global_tokens;
}

void ZLoss::backward_inputs(Backward& b) const {
  const TensorView dlse = b.target(0).view, lse = b.in(0);
  if (b.context().exec.dry) return;
  const double scale = 2 * *b.gradient(0).as<double>() * weight_.coef / weight_.global_tokens;
  for (int64_t t = 0; t < dlse.shape.elements(); ++t) write_element(dlse, 0, t, scale * read_element(lse, 0, t));
}

namespace {

double total_of(TensorView scores, int64_t token) {
  double total = 0;
  for (int64_t e = 0; e < scores.cols(); ++e) total += read_element(scores, token, e);
  return total;
}

// -sum q log q, q = scores / total.
double entropy_of(TensorView scores, int64_t token, double total) {
  double entropy = 0;
  for (int64_t e = 0; e < scores.cols(); ++e) {
    const double q = read_element(scores, token, e) / total;
    if (q > 0) entropy -= q * std::log(q);
  }
  return entropy;
}

}  // namespace

std::vector<TensorSpec> EntropyLoss::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2, in, "scores [tokens, experts]");
  return {kLoss};
}

void EntropyLoss::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  double sum = 0;
  for (int64_t t = 0; t < f.in[0].rows(); ++t) sum += entropy_of(f.in[0], t, total_of(f.in[0], t));
  *f.out[0].as<double>() = weight_.coef * sum / weight_.global_tokens;
}

// dH/ds_e = -(log q_e + H) / total; 0 where the score is 0, as of experts that are not there.
void EntropyLoss::backward_inputs(Backward& b) const {
  const TensorView dscores = b.target(0).view, scores = b.in(0);
  if (b.context().exec.dry) return;
  const double scale = *b.gradient(0).as<double>() * weight_.coef / weight_.global_tokens;
  for (int64_t t = 0; t < scores.rows(); ++t) {
    const double total = total_of(scores, t), entropy = entropy_of(scores, t, total);
    for (int64_t e = 0; e < scores.cols(); ++e) {
      const double q = read_element(scores, t, e) / total;
      write_element(dscores, t, e, q > 0 ? -scale * (std::log(q) + entropy) / total : 0);
    }
  }
}

std::vector<TensorSpec> RowShares::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2, in, "scores [tokens, experts]");
  return {in[0]};
}

void RowShares::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  for (int64_t t = 0; t < f.in[0].rows(); ++t) {
    const double total = total_of(f.in[0], t);
    for (int64_t e = 0; e < f.in[0].cols(); ++e) {
      write_element(f.out[0], t, e, read_element(f.in[0], t, e) / total);
    }
  }
}

// d/ds_e = (g_e - sum_j q_j g_j) / total.
void RowShares::backward_inputs(Backward& b) const {
  const TensorView dscores = b.target(0).view, scores = b.in(0), gradient = b.gradient(0);
  if (b.context().exec.dry) return;
  for (int64_t t = 0; t < scores.rows(); ++t) {
    const double total = total_of(scores, t);
    double mean = 0;
    for (int64_t e = 0; e < scores.cols(); ++e) {
      mean += read_element(scores, t, e) / total * read_element(gradient, t, e);
    }
    for (int64_t e = 0; e < scores.cols(); ++e) {
      write_element(dscores, t, e, (read_element(gradient, t, e) - mean) / total);
    }
  }
}

}  // namespace cadre::autograd
