#include "launch/failure.h"

#include <cstdio>
#include <exception>
#include <new>

#include "parallel/comm/communicator.h"

namespace cadre::launch {

Failure current_failure() {
  try {
    throw;
  } catch (const parallel::TimeoutError& error) {
    return {error.code(), error.what(), !error.first()};
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {ExitCode::kDevice, "out of memory"};
  } catch (const std::exception& error) {
    return {ExitCode::kInternal, std::string("internal error: ") + error.what()};
  } catch (...) {
    return {ExitCode::kInternal, "internal error"};
  }
}

void print_failure(const std::string& message, int rank) {
  const std::string prefix = rank < 0 ? "cadre: " : "cadre: [rank " + std::to_string(rank) + "] ";
  std::fputs((prefix + message + "\n").c_str(), stderr);
}

}  // namespace cadre::launch
