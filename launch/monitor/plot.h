#pragma once
// The loss of a run as a picture: a self-contained SVG, and a few lines of text.

#include <filesystem>
#include <string>
#include <vector>

#include "launch/monitor/metrics_file.h"

namespace cadre::launch {

inline constexpr const char* kLossPlotName = "loss.svg";

// Loss over tokens (over steps when no tokens are known): each step faint, an exponential mean over about a fiftieth of
// the run on top; the validation loss beside it, where there is one. Up to 2000 points are drawn as they are; beyond,
// each run of points becomes its extremes (its mean on top). No points: an SVG that says so.
std::string loss_svg(const std::vector<LossPoint>& points, const std::string& title);

// DIRECTORY/metrics.jsonl -> DIRECTORY/loss.svg. SinkError or CheckpointError when one cannot be read or written.
void write_loss_plot(const std::filesystem::path& directory);

enum class Glyphs { kAscii, kUnicode };
// A filled curve of `values`, each column a mean, `rows` + 1 lines without a last newline: the greatest and the least
// column mean stand at the left, `caption` below. Empty when there is no finite value.
std::string text_plot(const std::vector<double>& values, int columns, int rows, Glyphs glyphs,
                      const std::string& caption);

// Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], about `wanted` of them; low < high.
std::vector<double> nice_ticks(double low, double high, int wanted);

}  // namespace cadre::launch
