#pragma once
// How configs name activations.

#include "core/config/fields.h"
#include "kernels/activation.h"

template <>
struct cadre::config::EnumNames<cadre::kernels::Activation> {
  using enum cadre::kernels::Activation;
  static constexpr EnumName<cadre::kernels::Activation> values[] = {{kSwiGlu, "swiglu"}, {kGelu, "gelu"}};
};
