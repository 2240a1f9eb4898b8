#pragma once
// What kinds of experts there are, as configs name them.

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/fields.h"
#include "kernels/activation.h"

namespace cadre::model {

// What an expert does with a token: a feed-forward network; or nothing, passing it on, or a mixture of it and a learned
// constant, which cost next to nothing (Jin et al., "MoE++", 2024).
enum class ExpertComputation { kFull, kZero, kCopy, kConstant };

// Which ranks of an expert group hold a group's experts: "even": all experts of the layer are dealt out in order;
// "everywhere": every rank has them; "2" or "0..1": these ranks, counted round where there are fewer.
struct GroupPlacement {
  bool even = true;
  int64_t first = 0, last = -1;  // ranks; behind each other: everywhere

  // Throws ConfigError.
  static GroupPlacement parse(const std::string& text);
  // Those that there are, ascending.
  std::vector<int> ranks(int all) const;
};

}  // namespace cadre::model

template <>
struct cadre::config::EnumNames<cadre::kernels::Activation> {
  using enum cadre::kernels::Activation;
  static constexpr EnumName<cadre::kernels::Activation> values[] = {{kSwiGlu, "swiglu"}, {kGelu, "gelu"}};
};
template <>
struct cadre::config::EnumNames<cadre::model::ExpertComputation> {
  using enum cadre::model::ExpertComputation;
  static constexpr EnumName<cadre::model::ExpertComputation> values[] = {
      {kFull, "full"}, {kZero, "zero"}, {kCopy, "copy"}, {kConstant, "constant"}};
};
