#pragma once
// From an exception to one message and one exit code.

#include <string>

#include "core/error.h"

namespace cadre::launch {

struct Failure {
  ExitCode code;
  std::string message;
  bool reported_elsewhere = false;  // another rank of this node tells of the same hang
};

// What is being handled; to be called in a catch block.
Failure current_failure();

// `cadre: message` on stderr; with the rank in front where it is not negative.
void print_failure(const std::string& message, int rank = -1);

// Stands for a failure that has been printed: who catches it only returns its code.
class ReportedError : public Error {
 public:
  using Error::Error;
};

}  // namespace cadre::launch
