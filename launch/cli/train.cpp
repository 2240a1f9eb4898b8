#include "core/config/config.h"
#include "core/error.h"
#include "launch/cli/commands.h"
#include "launch/signals.h"
#include "launch/trainer/run.h"
#include "parallel/comm/agreement.h"

namespace cadre::launch {

// The config is read by every rank, and refused by all of them together.
int command_train(const TrainArguments& arguments) {
  watch_stop_signals();
  Session session;
  try {
    return session.together([&] {
      RunRequest request{{}, parse_resume(arguments.resume)};
      parallel::all_ok_after(session.world(), [&] {
        request.settings =
            config::parse<Settings>(config::load<Settings>(arguments.config.path, arguments.config.overrides));
        session.start(request.settings.device, request.settings.precision.dtype());
        const auto& timeout = request.settings.parallel.timeout_seconds;
        if (timeout) session.set_timeout(std::chrono::seconds(*timeout));
      });
      const RunEnd end = train_run(session, request);
      return static_cast<int>(end == RunEnd::kStopped ? ExitCode::kStopped : ExitCode::kOk);
    });
  } catch (const ReportedError& error) {
    return static_cast<int>(error.code());  // with the session intact, so that it ends MPI in order
  }
}

}  // namespace cadre::launch
