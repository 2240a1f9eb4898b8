#include "model/expert_kind.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/config/messages.h"
#include "core/error.h"

namespace cadre::model {

GroupPlacement GroupPlacement::parse(const std::string& text) {
  if (text == "even") return {};
  if (text == "everywhere") return {false, 0, -1};
  const auto number = [&](std::string_view digits) {
    int64_t value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool whole = error == std::errc() && end == digits.data() + digits.size() && value >= 0 && value < 1 << 20;
    if (!whole) {
      throw ConfigError(fmt::format("got {}, wanted even, everywhere, or ranks of an expert group, such as 2 or 0..1",
                                    config::in_quotes(text)));
    }
    return value;
  };
  const size_t dots = text.find("..");
  const int64_t first = number(std::string_view(text).substr(0, dots));
  const int64_t last = dots == std::string::npos ? first : number(std::string_view(text).substr(dots + 2));
  if (last < first) throw ConfigError(fmt::format("{} ends before it begins", config::in_quotes(text)));
  return {false, first, last};
}

std::vector<int> GroupPlacement::ranks(int all) const {
  std::set<int> ranks;
  const bool everywhere = last < first;
  for (int64_t rank = everywhere ? 0 : first; rank <= (everywhere ? all - 1 : std::min(last, first + all - 1)); ++rank)
    ranks.insert(static_cast<int>(rank % all));
  return {ranks.begin(), ranks.end()};
}

}  // namespace cadre::model
