#include "launch/bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace cadre::launch {
namespace {

constexpr double kTurnSeconds = 5e-3;
constexpr int kLeastRounds = 5;

}  // namespace

double seconds_of(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<double> alternate(double seconds, const std::vector<std::function<void()>>& calls) {
  std::vector<int> repeats;
  for (const auto& call : calls) {
    const double first = std::min(seconds_of(call), seconds_of(call));
    repeats.push_back(std::max(1, static_cast<int>(std::ceil(kTurnSeconds / std::max(first, 1e-7)))));
  }
  std::vector<std::vector<double>> times(calls.size());
  double spent = 0;
  for (int round = 0; round < kLeastRounds || spent < seconds; ++round) {
    for (size_t i = 0; i < calls.size(); ++i) {
      const double turn = seconds_of([&] {
        for (int repeat = 0; repeat < repeats[i]; ++repeat) calls[i]();
      });
      spent += turn;
      times[i].push_back(turn / repeats[i]);
    }
  }
  std::vector<double> medians;
  for (auto& of_one : times) medians.push_back(median(std::move(of_one)));
  return medians;
}

}  // namespace cadre::launch
