#include <cstdio>

#include "core/error.h"
#include "launch/checkpoint/inspect.h"
#include "launch/cli/commands.h"

namespace cadre::launch {
namespace {

int print(const Inspection& inspection) {
  std::fputs(inspection.text.c_str(), stdout);
  return inspection.ok ? 0 : static_cast<int>(ExitCode::kCheckpoint);
}

}  // namespace

int command_checkpoint_info(const std::string& path) { return print(checkpoint_info(path)); }
int command_checkpoint_check(const std::string& path) { return print(checkpoint_check(path)); }

int command_checkpoint_diff(const std::string& first, const std::string& second) {
  return print(checkpoint_diff(first, second));
}

}  // namespace cadre::launch
