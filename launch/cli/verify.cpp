#include "launch/verify/verify.h"

#include <fmt/core.h>

#include "core/config/config.h"
#include "core/config/messages.h"
#include "core/error.h"
#include "launch/cli/commands.h"
#include "launch/cli/together.h"
#include "model/expert_layout.h"

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

// All layouts of `least` to `most` ranks, unless some are named.
std::vector<Variant> variants_of(const VerifyArguments& arguments, const Settings& settings, int least, int most) {
  std::vector<Variant> variants;
  for (const std::string& text : arguments.layouts) variants.push_back(parse_variant(text));
  if (!variants.empty()) return variants;
  // A shrunk model has as many layers as its stages need.
  const int64_t layers = arguments.shrink ? 2 * most : settings.model.num_layers;
  return all_variants(least, most, model::ExpertLayout(settings.network()).fewest_computing(), layers,
                      arguments.schedules);
}

void check_runs(const Variant& variant, const Settings& settings, const VerifyArguments& arguments,
                const Session& session) {
  if (session.ranks() > 1 && variant.layout.ranks() != session.ranks()) {
    throw ConfigError(fmt::format("--layout {}: has {} ranks, but mpirun started {}", variant.to_string(),
                                  variant.layout.ranks(), session.ranks()));
  }
  if (!arguments.shrink && variant.stages() > settings.model.num_layers) {
    throw ConfigError(fmt::format("--layout {}: {} stages for {} layers; wanted at most so many, or --shrink",
                                  variant.to_string(), variant.stages(), settings.model.num_layers));
  }
}

}  // namespace

int command_verify(const VerifyArguments& arguments) {
  Session session;
  return run_together(session, [&] {
    const bool threads = session.ranks() == 1;
    if (arguments.ranks < 1 || arguments.ranks > 64) {
      throw ConfigError(fmt::format("--ranks: {}; wanted 1 to 64, as threads of this process", arguments.ranks));
    }
    const auto settings =
        config::parse<Settings>(config::load<Settings>(arguments.config.path, arguments.config.overrides));
    VerifyOptions options;
    const int most = threads ? arguments.ranks : session.ranks();
    options.variants = variants_of(arguments, settings, threads ? arguments.least_ranks : most, most);
    for (const Variant& variant : options.variants) check_runs(variant, settings, arguments, session);
    options.world = &session.world();
    options.print = session.rank() == 0;
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
