#pragma once
// Whether the reference's own gradient is one: directional finite differences of the whole model, routing held.

#include "launch/verify/run_case.h"

namespace cadre::launch {

// The largest over `directions` random directions v (unit vectors over all parameters) of
// |<g, v> - (L(p + h v) - L(p - h v)) / 2h| / |g|, where L is the loss plus the router losses, in FP64 on one rank, and
// g is reference.gradients. Central differences are exact to O(h^2). The
// better of two steps h counts: within the larger one a loss may have a kink (the hinge loss, say), and a wrong
// gradient is wrong at both.
double directional_error(const VerifyCase& verify_case, const CaseResult& reference, int directions);

}  // namespace cadre::launch
