#pragma once
// Typed errors. Libraries throw them; only launch/ turns them into an exit code.
//
// A message is one line and names what the reader can act on: rank, file or key; what was got; what was wanted; the
// nearest valid choice.

#include <stdexcept>
#include <string>

namespace cadre {

enum class ExitCode : int {
  kOk = 0,
  kUsage = 2,          // command line or config
  kData = 3,           // token files, tokenizers, corpora
  kCheckpoint = 4,     // missing, damaged or unwritable checkpoint
  kCommunication = 5,  // a failed or hung collective
  kDevice = 6,
  kDivergence = 7,  // non-finite or exploding training
  kInternal = 70,
  kStopped = 143,  // stopped by a signal after saving
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

template <ExitCode kCode>
class TypedError : public Error {
 public:
  explicit TypedError(const std::string& message) : Error(kCode, message) {}
};

using ConfigError = TypedError<ExitCode::kUsage>;
using DataError = TypedError<ExitCode::kData>;
using CheckpointError = TypedError<ExitCode::kCheckpoint>;
using CommunicationError = TypedError<ExitCode::kCommunication>;
using DeviceError = TypedError<ExitCode::kDevice>;
using DivergenceError = TypedError<ExitCode::kDivergence>;
using InternalError = TypedError<ExitCode::kInternal>;

}  // namespace cadre
