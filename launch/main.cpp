// The `cadre` program: the only place that turns errors into exit codes.

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>

#include "core/error.h"
#include "launch/cli/cli.h"

namespace {

// Under mpirun, a rank names itself before anything else is up.
void report(const char* what) {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank != nullptr) {
    std::fprintf(stderr, "cadre: [rank %s] %s\n", rank, what);
  } else {
    std::fprintf(stderr, "cadre: %s\n", what);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return cadre::launch::run_command_line(argc, argv);
  } catch (const cadre::Error& error) {
    report(error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    report("out of memory");
    return static_cast<int>(cadre::ExitCode::kDevice);
  } catch (const std::exception& error) {
    report((std::string("internal error: ") + error.what()).c_str());
    return static_cast<int>(cadre::ExitCode::kInternal);
  }
}
