// The `cadre` program: the only place that turns errors into exit codes.

#include <csignal>
#include <cstdlib>

#include "launch/cli/cli.h"
#include "launch/failure.h"

namespace {

// Under mpirun or srun, a rank names itself before anything else is up.
int rank_of_environment() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (const char* rank = std::getenv(name)) return std::atoi(rank);
  }
  return -1;
}

}  // namespace

int main(int argc, char** argv) {
  // A file at its size limit and a reader that went away are errors of write(), not deaths.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return cadre::launch::run_command_line(argc, argv);
  } catch (const cadre::launch::ReportedError& error) {
    return static_cast<int>(error.code());
  } catch (...) {
    const cadre::launch::Failure failure = cadre::launch::current_failure();
    cadre::launch::print_failure(failure.message, rank_of_environment());
    return static_cast<int>(failure.code);
  }
}
