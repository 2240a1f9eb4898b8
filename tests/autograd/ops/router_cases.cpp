// The router: choices are held by replay where finite differences could cross a tie.

#include "tests/autograd/op_cases.h"

namespace cadre::autograd::testing {
namespace {

struct Layout {
  int64_t tokens, experts;
  bool replay = false;
  bool fractions = false;
};

OpCase router(const char* name, Layout layout, RouterOptions options) {
  const auto [tokens, experts, replay, with_fractions] = layout;
  CaseInput ids = absent(), fractions = absent();
  if (replay) ids = i32(Shape{tokens, options.top_k}, random_choices(tokens, experts, options.top_k, 3));
  if (with_fractions) {
    std::vector<double> values;
    for (int64_t e = 0; e < experts; ++e) values.push_back(2.0 * double(e + 1) / double(experts * (experts + 1)));
    fractions = f64(Shape{experts}, values);
  }
  return {name, maker<Router>(options), {normal(Shape{tokens, experts}, 1, 2), ids, fractions}, {}};
}

}  // namespace

template <>
std::vector<OpCase> cases<Router>() {
  return {
      router("one token, one expert", {1, 1}, {.top_k = 1, .balance_coef = 0.5, .z_coef = 0.25}),
      router("top two", {7, 4}, {.top_k = 2}),
      router("raw probabilities", {7, 4, true}, {.top_k = 2, .renormalise = false}),
      router("balance and z", {7, 5, true}, {.top_k = 2, .balance_coef = 0.5, .z_coef = 0.25, .global_tokens = 11}),
      router("sequences", {12, 5, true}, {.top_k = 2, .scopes = 3, .balance_coef = 0.5, .global_tokens = 24}),
      router("given fractions", {7, 5, true, true}, {.top_k = 2, .balance_coef = 0.5, .global_tokens = 7}),
      router("top one", {7, 3, true}, {.top_k = 1, .balance_coef = 0.5, .z_coef = 0.25}),
      router("top one raw", {7, 3, true}, {.top_k = 1, .renormalise = false, .z_coef = 0.25}),
      router("all experts", {5, 3, true}, {.top_k = 3, .balance_coef = 0.5}),
      router("past a vector", {37, 67, true}, {.top_k = 7, .balance_coef = 0.5, .z_coef = 0.25, .global_tokens = 37}),
      router("no tokens", {0, 4}, {.top_k = 2, .balance_coef = 0.5, .z_coef = 0.25}),
  };
}

}  // namespace cadre::autograd::testing
