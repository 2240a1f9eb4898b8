#pragma once
// A sum of numbers in the binary tree over their index, so that consecutive parts of them, when they are as long as a
// power of two, are nodes of the whole.

#include <cstddef>
#include <vector>

namespace cadre::launch {

class TreeSum {
 public:
  void add(double value) {
    nodes_.push_back({value, 0});
    while (nodes_.size() > 1 && nodes_.back().height == nodes_[nodes_.size() - 2].height) merge();
  }
  double value() const {
    double sum = 0;
    for (std::size_t i = nodes_.size(); i-- > 0;) sum = i + 1 == nodes_.size() ? nodes_[i].sum : nodes_[i].sum + sum;
    return sum;
  }

 private:
  struct Node {
    double sum;
    int height;
  };
  void merge() {
    const double right = nodes_.back().sum;
    nodes_.pop_back();
    nodes_.back().sum += right;
    ++nodes_.back().height;
  }
  std::vector<Node> nodes_;
};

}  // namespace cadre::launch
