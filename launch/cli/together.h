#pragma once
// How a subcommand runs on all ranks that mpirun started.

#include <functional>

#include "launch/session.h"

namespace cadre::launch {

// What `body` returns. Errors end all ranks as Session::together says; the result is then the exit code of the error,
// and the session stays intact, so that it ends MPI in order.
int run_together(Session& session, const std::function<int()>& body);

// Throws ConfigError under mpirun with more than one rank.
void require_one_rank(const Session& session, const char* command);

}  // namespace cadre::launch
