#pragma once
// One message between two ranks, checked: the sender says ahead of it what it sends.

#include <memory>

#include "parallel/comm/mpi_messages.h"
#include "parallel/comm/operation.h"

namespace cadre::parallel {

// To or from call.peer, as call.operation says. All messages of a pair share one tag, so order alone matches them. A
// receiver that is sent another message than it expects throws, naming both calls; the sender does not learn of it.
std::unique_ptr<StagedOperation> make_message(const std::shared_ptr<MpiGroup>& group, const Call& call, void* data);

}  // namespace cadre::parallel
