#pragma once
// Models, settings and layouts for tests, small ones and random ones.

#include "core/rng.h"
#include "launch/settings.h"
#include "launch/verify/variant.h"

namespace cadre::launch::testing {

// CADRE_TEST_DRAWS, or so many.
int draws(int otherwise);

// Two layers of five experts.
Settings small_settings();
Settings random_settings(Rng& rng);
// Of up to eight ranks.
Variant random_variant(Rng& rng, const Settings& settings);

}  // namespace cadre::launch::testing
