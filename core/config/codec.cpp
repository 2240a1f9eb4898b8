#include "core/config/codec.h"

#include <fmt/core.h>

#include "core/config/number.h"

namespace cadre::config {

std::string Range::text() const {
  std::string result;
  const auto add = [&](const std::string& part) { result += (result.empty() ? "" : ", ") + part; };
  if (min) add(">= " + print_double(*min));
  if (above) add("> " + print_double(*above));
  if (max) add("<= " + print_double(*max));
  if (below) add("< " + print_double(*below));
  if (multiple_of) add(fmt::format("a multiple of {}", *multiple_of));
  if (not_empty) add("not empty");
  return result;
}

Field& Field::min(double bound) {
  range.min = bound;
  return *this;
}
Field& Field::max(double bound) {
  range.max = bound;
  return *this;
}
Field& Field::above(double bound) {
  range.above = bound;
  return *this;
}
Field& Field::below(double bound) {
  range.below = bound;
  return *this;
}
Field& Field::multiple_of(std::int64_t step) {
  range.multiple_of = step;
  return *this;
}
Field& Field::not_empty() {
  range.not_empty = true;
  return *this;
}
Field& Field::required() {
  is_required = true;
  return *this;
}
Field& Field::shorthand() {
  is_shorthand = true;
  return *this;
}

}  // namespace cadre::config
