#pragma once
// What metrics.jsonl says of a run, in the size that a page can show.

#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "launch/monitor/metrics_file.h"
#include "launch/report/time_bins.h"

namespace cadre::launch {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// What the last step that tells says of an expert, and sums over the run.
struct ExpertRecord {
  int64_t id = 0;
  double load = kUnknown;  // of the last step: choices over the fair share
  double mass = kUnknown, gradient_norm = kUnknown, update_norm = kUnknown;  // of the last step that measured them
  int64_t idle = 0;
  int64_t tokens = 0, drops = 0, skipped = 0, quarantined = 0;  // sums of choices, of drops, of steps
  bool in_quarantine = false;                                   // in the last step
  bool present = true;                                          // likewise
};

struct LayerRecord {
  enum Measure { kUtilisation, kVariation, kDivergence, kEntropy, kMeasures };
  int64_t layer = 0;
  std::vector<ExpertRecord> experts;  // in the order in which they appeared
  TimeBins loads;                     // by expert, as ExpertRecord::load
  TimeBins measures;                  // by Measure
  int64_t tokens = 0, dropped = 0;    // choices over the run
  double last(Measure measure) const;
};

struct TrafficRecord {
  int64_t step = 0;
  std::vector<std::vector<double>> bytes;  // of each data rank, to each rank of its expert group
};

struct RunHistory {
  enum Quantity { kLearningRate, kGradientNorm, kTokensPerSecond, kJoulesPerToken, kQuantities };
  std::vector<LossPoint> losses;
  TimeBins quantities;  // by Quantity
  std::vector<LayerRecord> layers;
  TrafficRecord traffic;  // of the last step that measured it
  int64_t first_step = 0, last_step = 0, steps = 0;
  int64_t bad_lines = 0;  // that are no whole object of a later step than the line before
  double tokens = 0, seconds = 0, joules = 0, joule_tokens = 0;
  double bits_per_byte = kUnknown;  // of the last validation
};

// Throws DataError when the file is missing or no line of it is a step.
RunHistory read_history(const std::filesystem::path& metrics);

}  // namespace cadre::launch
