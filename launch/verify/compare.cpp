#include "launch/verify/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cadre::launch {
namespace {

double norm_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

double relative(double value, double reference) {
  if (value == reference) return 0;
  return std::abs(value - reference) / std::max(std::abs(reference), std::numeric_limits<double>::min());
}

double error_of(const std::vector<double>& gradient, const std::vector<double>& reference, double least_norm) {
  if (gradient.size() != reference.size()) return std::numeric_limits<double>::infinity();
  std::vector<double> difference(gradient.size());
  for (size_t i = 0; i < gradient.size(); ++i) difference[i] = gradient[i] - reference[i];
  const double error = norm_of(difference);
  if (error == 0) return 0;
  const double quotient = error / std::max(norm_of(reference), least_norm);
  return std::isnan(quotient) ? std::numeric_limits<double>::infinity() : quotient;
}

}  // namespace

Comparison compare(const CaseResult& result, const CaseResult& reference, const std::vector<std::string>& order,
                   double tolerance, double floor) {
  double square = 0;
  for (const auto& [name, gradient] : reference.gradients) square += std::pow(norm_of(gradient), 2);
  Comparison comparison;
  comparison.loss =
      std::max({relative(result.loss, reference.loss), relative(result.balance_loss, reference.balance_loss),
                relative(result.z_loss, reference.z_loss)});
  for (const std::string& name : order) {
    const auto found = result.gradients.find(name);
    const double error = found == result.gradients.end()
                             ? std::numeric_limits<double>::infinity()
                             : error_of(found->second, reference.gradients.at(name), floor * std::sqrt(square));
    if (error > tolerance && comparison.first.empty()) {
      comparison.first = name;
      comparison.first_error = error;
    }
    if (error > comparison.gradient || comparison.worst.empty()) {
      comparison.gradient = error;
      comparison.worst = name;
    }
  }
  return comparison;
}

Flips count_flips(const RecordedRouting& one, const RecordedRouting& other) {
  Flips flips;
  for (size_t m = 0; m < one.size(); ++m) {
    for (size_t layer = 0; layer < one[m].size(); ++layer) {
      for (size_t i = 0; i < one[m][layer].size(); ++i) {
        ++flips.choices;
        flips.differ += one[m][layer][i] == other[m][layer][i] ? 0 : 1;
      }
    }
  }
  return flips;
}

}  // namespace cadre::launch
