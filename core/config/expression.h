#pragma once
// Numbers that depend on others: what a config writes as a number, or as an expression over variables.
//
//   count: "8 * 2^floor(layer / 4)"      ffn_hidden_size: wide // 2      when: layer % 2 == 1 && layer > 3
//
// muParser's language (+ - * / ^, comparisons giving 0 or 1, && ||, a ? b : c, min, max, abs, sqrt, ln, log2, exp, ...)
// with true and false, % and // (remainder and quotient of the division that rounds down), floor, ceil, round, trunc
// and not. Nothing can be assigned.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/config/fields.h"

namespace cadre::config {

// A member of a settings struct like any other; its field's range is not for expressions, but for plain numbers.
struct Expression {
  std::string text = "0";

  Expression() = default;
  Expression(double number);                          // NOLINT: implicit, so that defaults read as values
  Expression(const char* formula) : text(formula) {}  // NOLINT: likewise
  bool operator==(const Expression&) const = default;
};

using Variables = std::map<std::string, double, std::less<>>;

// These throw ConfigError: what the expression is, what it gave or what is wrong with it, and what was wanted.
double evaluate(const Expression& expression, const Variables& variables);
// Whole and at least `least`.
int64_t evaluate_whole(const Expression& expression, const Variables& variables, int64_t least);
// Not zero.
bool evaluate_condition(const Expression& expression, const Variables& variables);

// `more` by name, each of which may use `variables` and others of `more`; added to `variables`. Throws ConfigError
// naming one that cannot be computed.
void evaluate_all(const std::map<std::string, Expression>& more, Variables& variables);

// A letter, then letters, digits and underscores.
bool is_identifier(std::string_view text);

CodecPtr make_expression_codec();

namespace internal {
template <>
struct CodecOf<Expression> {
  static CodecPtr make() { return make_expression_codec(); }
};
}  // namespace internal

}  // namespace cadre::config
