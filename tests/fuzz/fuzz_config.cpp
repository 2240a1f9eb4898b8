// The config loader: any text, and any --set arguments, are read or refused with ConfigError; what was read prints as a
// text that reads back to the same settings. Input: the YAML, then --set arguments, each after a NUL.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.h"
#include "core/error.h"
#include "tests/core/config/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using cadre::config::test::Settings;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> parts;
  while (parts.size() < 8) {
    const size_t end = input.find('\0');
    parts.emplace_back(input.substr(0, end));
    if (end == std::string_view::npos) break;
    input.remove_prefix(end + 1);
  }
  const std::vector<std::string> overrides(parts.begin() + 1, parts.end());
  std::string printed;
  try {
    printed = cadre::config::print_resolved(cadre::config::parse_text<Settings>("fuzz", parts[0], overrides));
  } catch (const cadre::ConfigError&) {
    return 0;
  }
  if (cadre::config::print_resolved(cadre::config::parse_text<Settings>("printed", printed)) != printed)
    __builtin_trap();
  return 0;
}
