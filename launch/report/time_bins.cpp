#include "launch/report/time_bins.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cadre::launch {

void TimeBins::merge() {
  const size_t pairs = (columns_.size() + 1) / 2;
  for (size_t pair = 0; pair < pairs; ++pair) {
    std::vector<Cell> merged = std::move(columns_[2 * pair]);
    if (2 * pair + 1 < columns_.size()) {
      const std::vector<Cell>& other = columns_[2 * pair + 1];
      merged.resize(std::max(merged.size(), other.size()));
      for (size_t row = 0; row < other.size(); ++row) {
        merged[row].sum += other[row].sum;
        merged[row].count += other[row].count;
      }
    }
    columns_[pair] = std::move(merged);
  }
  columns_.resize(pairs);
  width_ *= 2;
}

void TimeBins::add(int64_t step, size_t row, double value) {
  if (!std::isfinite(value)) return;
  if (columns_.empty()) first_ = step;
  const int64_t since = std::max<int64_t>(0, step - first_);
  while (since / width_ >= static_cast<int64_t>(most_)) {
    if (columns_.size() > 1) {
      merge();
    } else {
      width_ *= 2;
    }
  }
  const auto column = static_cast<size_t>(since / width_);
  if (column >= columns_.size()) columns_.resize(column + 1);
  std::vector<Cell>& cells = columns_[column];
  if (row >= cells.size()) cells.resize(row + 1);
  cells[row].sum += value;
  ++cells[row].count;
  rows_ = std::max(rows_, row + 1);
}

double TimeBins::mean(size_t row, size_t column) const {
  const std::vector<Cell>& cells = columns_[column];
  if (row >= cells.size() || cells[row].count == 0) return std::numeric_limits<double>::quiet_NaN();
  return cells[row].sum / static_cast<double>(cells[row].count);
}

double TimeBins::middle(size_t column) const {
  return static_cast<double>(first_) + (static_cast<double>(column) + 0.5) * static_cast<double>(width_) - 0.5;
}

void TimeBins::shrink(size_t columns) {
  while (columns_.size() > columns && columns_.size() > 1) merge();
}

}  // namespace cadre::launch
