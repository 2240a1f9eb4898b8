#pragma once
// A plan as text and as JSON.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "launch/plan/search.h"

namespace cadre::launch {

// The best layouts, and why others do not fit.
std::string ranking_text(const Ranking& ranking, const Estimator& estimator, size_t most);
// One layout: memory and traffic by pipeline rank, time, and the pipeline's diagram when there is a pipeline.
std::string estimate_text(const Estimate& estimate, Estimator& estimator);
nlohmann::json to_json(const Estimate& estimate);
nlohmann::json to_json(const Ranking& ranking, size_t most);

}  // namespace cadre::launch
