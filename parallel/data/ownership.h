#pragma once
// Which of the ranks that hold a segment owns which part of it: sums its gradient, and with ZeRO alone keeps its
// moments and updates it.

#include <cstdint>
#include <vector>

namespace cadre::parallel {

// Segments are owned, and measured for norms, in pieces of so many elements, counted from the segment's start; the last
// one may be shorter. Independent of any layout.
constexpr int64_t kPieceElements = 16384;
constexpr int64_t pieces_of(int64_t elements) { return (elements + kPieceElements - 1) / kPieceElements; }

// Elements [begin, end) of a segment.
struct ElementRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
  bool operator==(const ElementRange&) const = default;
};

// What holder `index` of `holders` owns: a run of whole pieces, as many as the others own up to one. `first_piece` is
// the number of the segment's first piece when those of the whole model are counted: it decides where the runs start,
// so that short segments go round the holders. The holders' parts are disjoint and cover the segment.
ElementRange owned_range(int64_t elements, int64_t first_piece, int index, int holders);

}  // namespace cadre::parallel
