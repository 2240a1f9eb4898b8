#pragma once
// Which ranks of an expert group hold which experts. An expert has one holder or more (replicas); a rank may hold any
// number of experts, none included. Ids are global.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cadre::parallel {

class Placement {
 public:
  // Experts in runs of equal length, up to one. More ranks than experts: every rank holds one, experts have replicas.
  static Placement even(int64_t experts, int ranks);

  // holders[expert]: ranks, ascending. Throws ConfigError naming the expert when it has none, or one out of range or
  // twice.
  Placement(std::vector<std::vector<int>> holders, int ranks);

  int64_t experts() const { return static_cast<int64_t>(holders_.size()); }
  int ranks() const { return ranks_; }
  const std::vector<int>& holders(int64_t expert) const { return holders_[static_cast<size_t>(expert)]; }
  // Experts of a rank, ascending.
  const std::vector<int64_t>& held_by(int rank) const { return held_[static_cast<size_t>(rank)]; }
  bool has_replicas() const;

  // The rank that computes the rows which `source` routes to `expert`: itself when it is a holder, else the holders in
  // turn. A function of the two ids alone, so that all ranks agree without talking.
  int server(int64_t expert, int source) const;

  bool operator==(const Placement&) const = default;

 private:
  std::vector<std::vector<int>> holders_;
  std::vector<std::vector<int64_t>> held_;
  int ranks_;
};

}  // namespace cadre::parallel
