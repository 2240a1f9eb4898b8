#include <fmt/core.h>

#include "core/config/config.h"
#include "core/error.h"
#include "launch/cli/commands.h"
#include "launch/trainer/run.h"

namespace cadre::launch {

// Config errors come before MPI starts: no rank can hang on another one's.
int command_train(const TrainArguments& arguments) {
  const config::Document document = config::load<Settings>(arguments.config.path, arguments.config.overrides);
  const Settings settings = config::parse<Settings>(document);
  const ResumeRequest resume = parse_resume(arguments.resume);
  Session session(settings.device, settings.precision.dtype());
  const RunEnd end = train_run(session, {settings, resume});
  if (end == RunEnd::kSignal) return static_cast<int>(ExitCode::kStopped);
  return 0;
}

}  // namespace cadre::launch
