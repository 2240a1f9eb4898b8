#include "parallel/data/ownership.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cadre::parallel {
namespace {

TEST(Ownership, HoldersPartsAreWholePiecesDisjointCompleteAndEven) {
  for (const int64_t elements : {int64_t{1}, kPieceElements, kPieceElements + 1, 7 * kPieceElements - 5}) {
    for (const int64_t first_piece : {0, 1, 5}) {
      for (int holders = 1; holders <= 9; ++holders) {
        std::vector<ElementRange> parts;
        int64_t owned = 0, fewest = elements, most = 0;
        for (int index = 0; index < holders; ++index) {
          const ElementRange part = owned_range(elements, first_piece, index, holders);
          owned += part.count();
          fewest = std::min(fewest, pieces_of(part.count()));
          most = std::max(most, pieces_of(part.count()));
          if (part.count() == 0) continue;
          EXPECT_EQ(part.begin % kPieceElements, 0);
          EXPECT_TRUE(part.end % kPieceElements == 0 || part.end == elements);
          parts.push_back(part);
        }
        EXPECT_EQ(owned, elements);
        EXPECT_LE(most - fewest, 1);
        std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
        for (size_t i = 1; i < parts.size(); ++i) EXPECT_EQ(parts[i].begin, parts[i - 1].end);
      }
    }
  }
}

TEST(Ownership, ShortSegmentsGoRoundTheHolders) {
  std::vector<int> owners;
  for (int64_t piece = 0; piece < 6; ++piece) {
    for (int index = 0; index < 3; ++index) {
      if (owned_range(10, piece, index, 3).count() > 0) owners.push_back(index);
    }
  }
  EXPECT_EQ(owners, (std::vector<int>{2, 0, 1, 2, 0, 1}));
}

}  // namespace
}  // namespace cadre::parallel
