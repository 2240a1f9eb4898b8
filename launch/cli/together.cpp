#include "launch/cli/together.h"

#include <fmt/core.h>

#include "core/error.h"

namespace cadre::launch {

int run_together(Session& session, const std::function<int()>& body) {
  try {
    return session.together(body);
  } catch (const ReportedError& error) {
    return static_cast<int>(error.code());
  }
}

void require_one_rank(const Session& session, const char* command) {
  if (session.ranks() == 1) return;
  throw ConfigError(
      fmt::format("{}: runs on one rank, {} were started; run it without mpirun", command, session.ranks()));
}

}  // namespace cadre::launch
