#pragma once
// What experts take: tokens and sources, counted by running a run's newest checkpoint over its data.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launch/session.h"

namespace cadre::launch {

struct TokenShare {
  std::string text;   // as the tokenizer spells it
  int64_t count = 0;  // that the expert took
  double share = 0;   // of the expert's tokens
  double lift = 0;    // over the token's share of all
};

struct ExpertTaste {
  int64_t id = 0;
  int64_t tokens = 0;
  std::vector<double> sources;  // the expert's share of each source's choices, times the number of experts: 1 is fair
  std::vector<TokenShare> tokens_of_its_own;  // by what each adds to the information between expert and token
};

struct Specialisation {
  std::string problem;  // why there is none; empty: there is
  std::string checkpoint;
  int64_t step = 0, tokens = 0;
  std::vector<std::string> sources;
  std::map<int64_t, std::vector<ExpertTaste>> layers;
};

// `tokens`: at most so many of each source, whole windows spread evenly over it. Trained sources and held-out ones are
// looked at. What is missing is a problem, no error.
Specialisation specialisation_of(Session& session, const std::filesystem::path& run, int64_t tokens);

}  // namespace cadre::launch
