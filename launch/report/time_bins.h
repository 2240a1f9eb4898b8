#pragma once
// Means of many quantities over equal runs of steps: a long run in bounded memory, read once.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cadre::launch {

class TimeBins {
 public:
  // At most `most` columns, an even number: when more were needed, neighbours become one.
  explicit TimeBins(size_t most = 200) : most_(most) {}

  // Steps do not decrease. Values that are not finite are passed over.
  void add(int64_t step, size_t row, double value);

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_.size(); }
  // NaN where nothing was added.
  double mean(size_t row, size_t column) const;
  // Middle of a column, and what all of them span: [first, end) in steps.
  double middle(size_t column) const;
  int64_t first() const { return first_; }
  int64_t end() const { return first_ + static_cast<int64_t>(columns_.size()) * width_; }
  // Merges neighbours until there are no more columns than that.
  void shrink(size_t columns);

 private:
  struct Cell {
    double sum = 0;
    int64_t count = 0;
  };
  void merge();

  size_t most_, rows_ = 0;
  int64_t first_ = 0, width_ = 1;
  std::vector<std::vector<Cell>> columns_;  // [column][row]; rows may be missing at the end
};

}  // namespace cadre::launch
