#include "core/config/config.h"

#include <cstdio>

#include "launch/cli/commands.h"
#include "launch/settings.h"

namespace cadre::launch {

int command_config_show(const ConfigArguments& arguments) {
  const config::Document document = config::load<Settings>(arguments.path, arguments.overrides);
  const Settings settings = config::parse<Settings>(document);
  std::fputs(config::print_resolved(settings, &document).c_str(), stdout);
  return 0;
}

int command_config_check(const ConfigArguments& arguments) {
  config::parse<Settings>(config::load<Settings>(arguments.path, arguments.overrides));
  std::printf("%s: valid\n", arguments.path.c_str());
  return 0;
}

int command_config_docs() {
  std::fputs(config::docs<Settings>("Config").c_str(), stdout);
  return 0;
}

}  // namespace cadre::launch
