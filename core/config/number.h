#pragma once
// Numbers as people write them: 64k = 64,000, 64Ki = 65,536, M, Mi, G, Gi, T, Ti; 1.5k; 1e6; 1_000. Refused:
// hexadecimal, octal-looking (010), infinities, not-a-number, misplaced underscores.

#include <cstdint>
#include <string>
#include <string_view>

namespace cadre::config {

template <class T>
struct Parsed {
  T value{};
  std::string fault;  // empty: parsed; else what was got and wanted
};

// Whole numbers, exactly: 1.5k and 1e3 are whole, 1.5 is not.
Parsed<std::int64_t> parse_int64(std::string_view text);
Parsed<std::uint64_t> parse_uint64(std::string_view text);
// The double nearest to what is written; with a binary unit, that times a power of two.
Parsed<double> parse_double(std::string_view text);

// The shortest text that parse_double reads back to the same double. `value` must be finite.
std::string print_double(double value);

}  // namespace cadre::config
