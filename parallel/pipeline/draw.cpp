#include "parallel/pipeline/draw.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace cadre::parallel {
namespace {

std::string label_of(const ScheduleShape& shape, const Action& action) {
  constexpr char kLetters[] = {'F', 'B', 'I', 'W'};
  std::string label(1, kLetters[static_cast<size_t>(action.kind)]);
  label += std::to_string(action.micro_batch);
  if (shape.chunks > 1) label += static_cast<char>('a' + std::min(shape.chunk_of(action.stage), 25));
  return label;
}

// Columns for a unit of time: whole ones for the shortest action where there is room.
double scale_of(const Schedule& schedule, const Timeline& timeline, int columns) {
  double shortest = timeline.makespan;
  size_t label = 0;
  for (const std::vector<TimedAction>& actions : timeline.ranks) {
    for (const TimedAction& timed : actions) {
      if (!is_compute(timed.action.kind)) continue;
      label = std::max(label, label_of(schedule.shape, timed.action).size());
      if (timed.end > timed.start) shortest = std::min(shortest, timed.end - timed.start);
    }
  }
  if (timeline.makespan <= 0) return 0;
  const double fitting = columns / timeline.makespan, cells = std::floor(fitting * shortest);
  if (cells < 1) return fitting;
  return std::min(cells, static_cast<double>(label + 1)) / shortest;
}

std::string line_of(const ScheduleShape& shape, const std::vector<TimedAction>& actions, double scale, size_t width) {
  const auto column = [&](double time) { return static_cast<size_t>(std::lround(time * scale)); };
  std::string line(width, '.');
  for (const TimedAction& timed : actions) {
    if (!is_compute(timed.action.kind)) continue;
    const size_t begin = column(timed.start), cells = column(timed.end) - begin;
    std::string text = label_of(shape, timed.action);
    if (text.size() > cells) text.resize(std::min<size_t>(cells, 1));
    text.resize(cells, ' ');
    line.replace(begin, cells, text);
  }
  return line;
}

}  // namespace

std::string draw(const Schedule& schedule, const Timeline& timeline, int columns) {
  const double scale = scale_of(schedule, timeline, columns);
  const size_t width = static_cast<size_t>(std::lround(timeline.makespan * scale));
  const size_t digits = std::to_string(schedule.shape.ranks - 1).size();
  std::string text;
  for (size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    text +=
        fmt::format("rank {:>{}} |{}|\n", rank, digits, line_of(schedule.shape, timeline.ranks[rank], scale, width));
  }
  return text;
}

}  // namespace cadre::parallel
