#pragma once
// Counts what a rank sends, by group and by what it is for.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

struct TrafficCount {
  int64_t calls = 0;
  double bytes = 0;
};
// By the group's name (an axis) and the label's. Bytes are those that a rank has to send to the others of its group at
// least, B being its part: all_gather B (n - 1), reduce_scatter B (n - 1) for n parts of B, all_reduce both of them for
// n parts of B / n (Chan et al., "Collective communication: theory, practice, and experience", 2007); all_to_all its
// rows for others; broadcast B at the root; send B. Barriers and texts are left out.
using Traffic = std::map<std::pair<std::string, std::string>, TrafficCount>;

// `inner` and what is split off it, counted into `traffic`, which must outlive them all. Not for two threads at a time.
std::unique_ptr<Communicator> make_metered_communicator(std::unique_ptr<Communicator> inner, Traffic& traffic);
// Likewise; `inner` must outlive it.
std::unique_ptr<Communicator> make_metered_communicator(Communicator& inner, Traffic& traffic);

}  // namespace cadre::parallel
