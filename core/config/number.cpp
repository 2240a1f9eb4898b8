#include "core/config/number.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <limits>

#include "core/config/messages.h"

namespace cadre::config {
namespace {

struct Unit {
  std::string_view name;
  int power_of_ten;
  int power_of_two;
};
constexpr Unit kUnits[] = {{"", 0, 0},  {"k", 3, 0},   {"Ki", 0, 10}, {"M", 6, 0},  {"Mi", 0, 20},
                           {"G", 9, 0}, {"Gi", 0, 30}, {"T", 12, 0},  {"Ti", 0, 40}};

// (negative ? -1 : 1) x digits x 10^exponent x 2^power_of_two
struct Decimal {
  bool negative = false;
  std::string digits;  // no leading zeros; empty is zero
  int exponent = 0;
  int power_of_two = 0;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Appends digits to `digits`; underscores only between digits. Returns how many digits, or -1 on a bad underscore.
int take_digits(std::string_view text, std::size_t& at, std::string& digits) {
  int count = 0;
  while (at < text.size() && (is_digit(text[at]) || text[at] == '_')) {
    if (text[at] == '_') {
      const bool between = count > 0 && at + 1 < text.size() && is_digit(text[at + 1]) && text[at - 1] != '_';
      if (!between) return -1;
    } else {
      digits += text[at];
      ++count;
    }
    ++at;
  }
  return count;
}

std::string read_decimal(std::string_view text, std::string_view wanted, Decimal& number) {
  const std::string got = fmt::format("got {}, wanted {}", in_quotes(text), wanted);
  if (text.size() > 400) return got;
  std::size_t at = 0;
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) number.negative = text[at++] == '-';
  const int whole = take_digits(text, at, number.digits);
  if (whole > 1 && number.digits[0] == '0') return got + "; a leading zero reads as octal in some programs, drop it";
  int fraction = 0;
  if (at < text.size() && text[at] == '.') fraction = take_digits(text, ++at, number.digits);
  if (whole < 0 || fraction < 0 || whole + fraction == 0) return got;
  number.exponent = -fraction;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    const bool minus = at < text.size() && text[at] == '-';
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    std::string exponent;
    const int count = take_digits(text, at, exponent);
    if (count < 1 || count > 5) return got;
    int shift = 0;
    std::from_chars(exponent.data(), exponent.data() + exponent.size(), shift);
    number.exponent += minus ? -shift : shift;
  }
  const std::string_view suffix = text.substr(at);
  const Unit* unit = nullptr;
  for (const Unit& candidate : kUnits) {
    if (candidate.name == suffix) unit = &candidate;
  }
  if (unit == nullptr) {
    const bool letters =
        suffix.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == suffix.npos;
    return letters ? got + fmt::format("; {} is no unit, units are k, M, G, T and Ki, Mi, Gi, Ti", in_quotes(suffix))
                   : got;
  }
  number.exponent += unit->power_of_ten;
  number.power_of_two = unit->power_of_two;
  number.digits.erase(0, std::min(number.digits.find_first_not_of('0'), number.digits.size()));
  while (!number.digits.empty() && number.digits.back() == '0') {
    number.digits.pop_back();
    ++number.exponent;
  }
  return {};
}

enum class Wholeness { kWhole, kFractional, kTooLarge };

// The magnitude of a whole number below 2^64.
Wholeness to_whole(const Decimal& number, std::uint64_t& result) {
  using Wide = unsigned __int128;
  result = 0;
  if (number.digits.empty()) return Wholeness::kWhole;
  if (number.exponent > 20) return Wholeness::kTooLarge;
  if (number.digits.size() > 25) return number.exponent < -50 ? Wholeness::kFractional : Wholeness::kTooLarge;
  Wide value = 0;
  for (const char c : number.digits) value = value * 10 + static_cast<unsigned>(c - '0');
  value <<= number.power_of_two;  // below 10^25 x 2^40 < 2^124
  for (int i = number.exponent; i < 0; ++i) {
    if (value % 10 != 0) return Wholeness::kFractional;
    value /= 10;
  }
  for (int i = 0; i < number.exponent; ++i) {
    if (value > std::numeric_limits<std::uint64_t>::max()) return Wholeness::kTooLarge;
    value *= 10;
  }
  if (value > std::numeric_limits<std::uint64_t>::max()) return Wholeness::kTooLarge;
  result = static_cast<std::uint64_t>(value);
  return Wholeness::kWhole;
}

std::string read_whole(std::string_view text, bool& negative, std::uint64_t& magnitude) {
  Decimal number;
  std::string fault = read_decimal(text, "a whole number", number);
  if (!fault.empty()) return fault;
  negative = number.negative;
  switch (to_whole(number, magnitude)) {
    case Wholeness::kWhole: return {};
    case Wholeness::kFractional: return fmt::format("got {}, wanted a whole number", in_quotes(text));
    default: return fmt::format("got {}, too large for a 64-bit integer", in_quotes(text));
  }
}

}  // namespace

Parsed<std::int64_t> parse_int64(std::string_view text) {
  bool negative = false;
  std::uint64_t magnitude = 0;
  std::string fault = read_whole(text, negative, magnitude);
  if (!fault.empty()) return {0, std::move(fault)};
  const std::uint64_t largest = (std::uint64_t{1} << 63) - (negative ? 0 : 1);
  if (magnitude > largest) return {0, fmt::format("got {}, too large for a 64-bit integer", in_quotes(text))};
  return {static_cast<std::int64_t>(negative ? ~magnitude + 1 : magnitude), {}};
}

Parsed<std::uint64_t> parse_uint64(std::string_view text) {
  bool negative = false;
  std::uint64_t magnitude = 0;
  std::string fault = read_whole(text, negative, magnitude);
  if (!fault.empty()) return {0, std::move(fault)};
  if (negative && magnitude != 0) return {0, fmt::format("got {}, wanted a whole number >= 0", in_quotes(text))};
  return {magnitude, {}};
}

Parsed<double> parse_double(std::string_view text) {
  Decimal number;
  std::string fault = read_decimal(text, "a number", number);
  if (!fault.empty()) return {0, std::move(fault)};
  if (number.digits.empty()) return {number.negative ? -0.0 : 0.0, {}};
  const std::string plain = fmt::format("{}{}e{}", number.negative ? "-" : "", number.digits, number.exponent);
  double value = 0;
  const auto result = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  value = std::ldexp(value, number.power_of_two);
  if (result.ec != std::errc() || !std::isfinite(value)) {
    return {0, fmt::format("got {}, beyond the range of a double", in_quotes(text))};
  }
  return {value, {}};
}

std::string print_double(double value) {
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, result.ptr);
  const std::size_t exponent = text.find('e');  // 3e-04 to 3e-4
  if (exponent != text.npos && text[exponent + 2] == '0') text.erase(exponent + 2, 1);
  return text;
}

}  // namespace cadre::config
