#pragma once
// Which ranks a communicator joins, and its name: what errors and the watchdog call it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cadre::parallel {

struct Group {
  std::string name = "world";
  // The same on every member, and different from every other group of any of them.
  uint64_t key = 0;
  // Ranks of the world, in the order of the ranks here.
  std::vector<int> members = {0};

  int world_rank(int rank) const { return members[static_cast<size_t>(rank)]; }
};
using GroupPtr = std::shared_ptr<const Group>;

// One rank's wish in Communicator::split, as it is exchanged.
struct SplitWish {
  int color = -1;  // negative: joins no group
  int key = 0;
  std::string name;
};

// The group that `rank` wished to join, given all ranks' wishes, by rank of `parent`; null when it joins none.
// `ordinal` counts the splits of the parent. Throws CommunicationError naming ranks when members wish for different
// names.
GroupPtr form_group(const Group& parent, int64_t ordinal, const std::vector<SplitWish>& wishes, int rank);
std::string encode(const SplitWish& wish);
SplitWish decode_wish(const std::string& text);

}  // namespace cadre::parallel
