#pragma once
// How ranks refuse bad input together: before the first real collective, on every rank, without a hang.

#include <functional>
#include <optional>
#include <string>

#include "core/error.h"
#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// Returns when every rank passed the same text (a config's or a data set's fingerprint). Otherwise every rank throws
// the typed error of `code`, naming the ranks that differ from the majority, `what`, and both texts.
void agree_on(Communicator& communicator, const std::string& text, const std::string& what,
              ExitCode code = ExitCode::kUsage);

// Returns when no rank passed an error. Otherwise every rank throws the error of the lowest rank that has one, with
// that rank's code and its rank in front (left out when all ranks report the same).
void all_ok(Communicator& communicator, const std::optional<std::string>& error, ExitCode code = ExitCode::kUsage);

// Runs `body` on this rank and then all_ok with what it threw, if anything. `body` must not communicate.
void all_ok_after(Communicator& communicator, const std::function<void()>& body);

}  // namespace cadre::parallel
