#include "launch/verify/verify.h"

#include <fmt/core.h>

#include "core/config/config.h"
#include "core/config/messages.h"
#include "core/error.h"
#include "launch/cli/commands.h"
#include "launch/cli/together.h"

namespace cadre::launch {
namespace {

Fault parse_fault(const std::string& text) {
  std::vector<std::string> names;
  for (const auto& entry : config::EnumNames<Fault>::values) {
    if (entry.name == text) return entry.value;
    names.emplace_back(entry.name);
  }
  throw ConfigError("--fault: no such fault: " + config::in_quotes(text) + config::suggestion(text, names));
}

// A layout as written stands for its own number of ranks.
parallel::Layout layout_of(const std::string& text) {
  const parallel::LayoutRequest request = parallel::parse_layout(text);
  const int expert = request.expert.value_or(1), data = request.data.value_or(expert);
  return parallel::resolve_layout({data, request.pipeline.value_or(1), expert}, data * request.pipeline.value_or(1));
}

std::vector<parallel::Layout> layouts_of(const VerifyArguments& arguments, int64_t experts) {
  std::vector<parallel::Layout> layouts;
  for (const std::string& text : arguments.layouts) layouts.push_back(layout_of(text));
  if (!layouts.empty()) return layouts;
  for (int ranks = 1; ranks <= arguments.ranks; ++ranks) {
    for (const parallel::Layout& layout : parallel::all_layouts(ranks)) {
      const bool fits = layout.expert == 1 || experts >= layout.expert;
      if (layout.pipeline == 1 && fits) layouts.push_back(layout);
    }
  }
  return layouts;
}

}  // namespace

int command_verify(const VerifyArguments& arguments) {
  Session session;
  return run_together(session, [&] {
    require_one_rank(session, "verify");
    if (arguments.ranks < 1 || arguments.ranks > 64) {
      throw ConfigError(fmt::format("--ranks: {}; wanted 1 to 64, as threads of this process", arguments.ranks));
    }
    const auto settings =
        config::parse<Settings>(config::load<Settings>(arguments.config.path, arguments.config.overrides));
    VerifyOptions options;
    options.layouts = layouts_of(arguments, settings.moe.num_experts);
    options.shrink = arguments.shrink;
    options.fault = parse_fault(arguments.fault);
    const VerifyReport report = verify(settings, options);
    if (report.passes()) return 0;
    throw InternalError(report.directional_error > kDirectionalTolerance
                            ? "verify: the reference's own gradient is wrong; see above"
                            : "verify: a layout's losses or gradients differ from one rank's; see above");
  });
}

}  // namespace cadre::launch
