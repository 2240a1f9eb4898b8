#pragma once
// Which messages the compute actions imply, and where in the lists they stand.
//
// A send starts a message, a receive posts its buffer; neither waits. The compute action that needs the data waits for
// the receive, so communication runs under computation. Messages between two ranks, activations and gradients alike,
// arrive in the order in which they were sent; tags are not needed.

#include <optional>

#include "parallel/pipeline/schedule.h"

namespace cadre::parallel {

// The message that a compute action's result leaves in, or its data comes by; none at the ends of the pipeline, for
// kBackwardWeights, and between stages of one rank.
std::optional<Action> send_after(const ScheduleShape& shape, const Action& compute);
std::optional<Action> receive_before(const ScheduleShape& shape, const Action& compute);

// The receive of a send, the send of a receive.
Action other_end(const Action& message);

// Adds the messages to a schedule that has compute actions only. A send follows its producer at once. Its receive
// stands before the first action that, with forward : inputs : weights as 1 : 1 : 1, starts after the producer does,
// so that it is posted when the data comes.
//
// Send and receive are one event of one total order, and every list follows that order. So the lists cannot deadlock,
// even when sends and receives are carried out as calls that block until both sides are there. Throws InternalError
// when the compute actions wait for each other in a circle.
Schedule with_messages(const Schedule& compute);

}  // namespace cadre::parallel
