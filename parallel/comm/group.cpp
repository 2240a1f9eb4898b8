#include "parallel/comm/group.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "core/error.h"

namespace cadre::parallel {
namespace {

// A step of SplitMix64.
uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

// All ranks check all groups, so that all throw.
void check_names(const Group& parent, int64_t ordinal, const std::vector<SplitWish>& wishes) {
  std::map<int, size_t> first;  // rank, by color
  for (size_t rank = 0; rank < wishes.size(); ++rank) {
    const SplitWish& wish = wishes[rank];
    if (wish.color < 0) continue;
    const size_t other = first.try_emplace(wish.color, rank).first->second;
    if (wishes[other].name == wish.name) continue;
    throw CommunicationError(fmt::format(
        "split #{} of {}: rank {} names color {} \"{}\", rank {} "
        "names it \"{}\"",
        ordinal, parent.name, parent.members[other], wish.color, wishes[other].name, parent.members[rank], wish.name));
  }
}

}  // namespace

GroupPtr form_group(const Group& parent, int64_t ordinal, const std::vector<SplitWish>& wishes, int rank) {
  check_names(parent, ordinal, wishes);
  const SplitWish& own = wishes[static_cast<size_t>(rank)];
  if (own.color < 0) return nullptr;
  std::vector<int> ranks;
  for (size_t i = 0; i < wishes.size(); ++i) {
    if (wishes[i].color == own.color) ranks.push_back(static_cast<int>(i));
  }
  std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) {
    return wishes[static_cast<size_t>(a)].key < wishes[static_cast<size_t>(b)].key;
  });
  auto group = std::make_shared<Group>();
  group->name = own.name;
  group->key = mix(mix(parent.key + static_cast<uint64_t>(ordinal)) + static_cast<uint64_t>(own.color));
  group->members.clear();
  for (const int member : ranks) group->members.push_back(parent.world_rank(member));
  return group;
}

std::string encode(const SplitWish& wish) { return fmt::format("{} {} {}", wish.color, wish.key, wish.name); }

SplitWish decode_wish(const std::string& text) {
  SplitWish wish;
  size_t used = 0;
  wish.color = std::stoi(text, &used);
  size_t more = 0;
  wish.key = std::stoi(text.substr(used), &more);
  wish.name = text.substr(used + more + 1);
  return wish;
}

}  // namespace cadre::parallel
