#pragma once
// A timeline as text: one line per rank, columns are time.

#include <string>

#include "parallel/pipeline/simulate.h"

namespace cadre::parallel {

// F forward, B whole backward, I backward of inputs, W backward of weights, then the micro-batch from 0, then, with
// several chunks, the chunk as a letter from 'a'; a dot is a column without computation. Messages are not drawn. As
// wide as the shortest action needs to be readable, at most `columns` for the whole step; an action that is too narrow
// for its label shows its letter alone, or nothing. Lines end in a newline:
//
//   rank 0 |F0 F1 ......B0    F2 B1    ...B2    |
std::string draw(const Schedule& schedule, const Timeline& timeline, int columns = 160);

}  // namespace cadre::parallel
