#include "parallel/pipeline/interpreter.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "parallel/pipeline/messages.h"

namespace cadre::parallel {
namespace {

using enum ActionKind;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

Interpreter::Interpreter(Communicator& pipeline, Allocator& allocator, Schedule schedule)
    : pipeline_(pipeline), allocator_(allocator), schedule_(std::move(schedule)) {
  if (schedule_.shape.ranks == pipeline.size()) return;
  throw InternalError(fmt::format("a pipeline schedule of {} ranks on {}", schedule_.shape.ranks, pipeline.size()));
}

void Interpreter::run(StageWork& work) {
  exposed_seconds_ = 0;
  times_.clear();
  start_ = now();
  for (const Action& action : schedule_.ranks[static_cast<size_t>(pipeline_.rank())]) carry_out(action, work);
  reap(true);
}

void Interpreter::carry_out(const Action& action, StageWork& work) {
  switch (action.kind) {
    case kSendActivation: return send(activations_out_, action);
    case kSendGradient: return send(gradients_out_, action);
    case kReceiveActivation: return receive(activations_in_, action, work);
    case kReceiveGradient: return receive(gradients_in_, action, work);
    default: return compute(action, work);
  }
}

void Interpreter::send(std::map<Place, Tensor>& from, const Action& action) {
  const auto found = from.find({action.stage, action.micro_batch});
  if (found == from.end()) throw InternalError("pipeline: nothing to send: " + describe(action));
  Tensor tensor = std::move(found->second);
  from.erase(found);
  const int to = schedule_.shape.rank_of(other_end(action).stage);
  const char* name = action.kind == kSendActivation ? "activation" : "activation gradient";
  WorkPtr work = pipeline_.send(tensor.view(), to, {name, action.stage});
  sends_.push_back({std::move(tensor), std::move(work)});
  reap(false);
}

void Interpreter::receive(std::map<Place, Message>& into, const Action& action, StageWork& work) {
  const autograd::TensorSpec spec = work.stream(action.micro_batch);
  Tensor tensor = Tensor::empty(allocator_, spec.dtype, spec.shape);
  const Action sent = other_end(action);
  const char* name = action.kind == kReceiveActivation ? "activation" : "activation gradient";
  WorkPtr arrival = pipeline_.receive(tensor.view(), schedule_.shape.rank_of(sent.stage), {name, sent.stage});
  into[{action.stage, action.micro_batch}] = {std::move(tensor), std::move(arrival)};
}

// Empty where nothing comes in: at the ends of the pipeline.
Tensor Interpreter::take(std::map<Place, Message>& messages, const Action& action) {
  const auto found = messages.find({action.stage, action.micro_batch});
  if (found == messages.end()) return {};
  const double before = now();
  if (found->second.work) found->second.work->wait();
  exposed_seconds_ += now() - before;
  Tensor tensor = std::move(found->second.tensor);
  messages.erase(found);
  return tensor;
}

// For the send that follows, or, when the neighbour is here too, for its turn.
void Interpreter::keep(std::map<Place, Tensor>& produced, std::map<Place, Message>& arrived, const Action& action,
                       Tensor tensor) {
  if (!tensor) return;
  if (send_after(schedule_.shape, action)) {
    produced[{action.stage, action.micro_batch}] = std::move(tensor);
  } else {
    const int neighbour = action.stage + (action.kind == kForward ? 1 : -1);
    arrived[{neighbour, action.micro_batch}] = {std::move(tensor), nullptr};
  }
}

void Interpreter::compute(const Action& action, StageWork& work) {
  const bool forward = action.kind == kForward, backward = action.kind == kBackward || action.kind == kBackwardInputs;
  Tensor input;
  if (forward) input = take(activations_in_, action);
  if (backward) input = take(gradients_in_, action);
  const double before = now() - start_;
  if (forward) {
    keep(activations_out_, activations_in_, action, work.forward(action.stage, action.micro_batch, std::move(input)));
  } else if (backward) {
    const auto part = action.kind == kBackward ? autograd::BackwardPart::kAll : autograd::BackwardPart::kInputsOnly;
    keep(gradients_out_, gradients_in_, action,
         work.backward(action.stage, action.micro_batch, std::move(input), part));
  } else {
    work.backward_weights(action.stage, action.micro_batch);
  }
  times_.push_back({action, before, now() - start_});
}

// Frees what has been sent; with `all` waits for the rest.
void Interpreter::reap(bool all) {
  const double before = now();
  std::erase_if(sends_, [&](Message& message) {
    if (all) message.work->wait();
    return all || message.work->done();
  });
  if (all) exposed_seconds_ += now() - before;
}

}  // namespace cadre::parallel
