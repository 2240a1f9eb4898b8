#pragma once
// Carries out one rank's part of a schedule.
//
// Sends and receives are started where the schedule has them and waited for only by the action that needs the data, so
// they run under computation. What is computed is the caller's business.

#include <map>
#include <utility>
#include <vector>

#include "autograd/op.h"
#include "autograd/tape.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/simulate.h"

namespace cadre::parallel {

// The computation of a rank's stages. A stream is the tensor that passes from stage to stage.
class StageWork {
 public:
  virtual ~StageWork() = default;
  // The stream's type and shape, which both sides of a message know.
  virtual autograd::TensorSpec stream(int micro_batch) = 0;
  // `input` is empty for the first stage; so is the result of the last one.
  virtual Tensor forward(int stage, int micro_batch, Tensor input) = 0;
  // The gradient of the stage's output (empty for the last stage) -> that of its input (empty for the first).
  virtual Tensor backward(int stage, int micro_batch, Tensor gradient, autograd::BackwardPart part) = 0;
  // What kInputsOnly left.
  virtual void backward_weights(int stage, int micro_batch) = 0;
};

class Interpreter {
 public:
  // `schedule` must be valid (validate.h) and have as many ranks as `pipeline`, whose communicator and the allocator
  // must outlive the interpreter. Stages of one rank hand over without messages.
  Interpreter(Communicator& pipeline, Allocator& allocator, Schedule schedule);

  // One step. Collective over the pipeline. Throws what the work throws, and as the communicator does.
  void run(StageWork& work);

  const Schedule& schedule() const { return schedule_; }
  // Of the last run: seconds spent waiting for messages, and when each compute action began and ended, from the start
  // of the run.
  double exposed_seconds() const { return exposed_seconds_; }
  const std::vector<TimedAction>& times() const { return times_; }

 private:
  using Place = std::pair<int, int>;  // stage, micro-batch
  struct Message {
    Tensor tensor;
    WorkPtr work;
  };

  void carry_out(const Action& action, StageWork& work);
  void send(std::map<Place, Tensor>& from, const Action& action);
  void receive(std::map<Place, Message>& into, const Action& action, StageWork& work);
  Tensor take(std::map<Place, Message>& messages, const Action& action);
  void keep(std::map<Place, Tensor>& produced, std::map<Place, Message>& arrived, const Action& action, Tensor tensor);
  void compute(const Action& action, StageWork& work);
  void reap(bool all);

  Communicator& pipeline_;
  Allocator& allocator_;
  Schedule schedule_;
  std::map<Place, Tensor> activations_out_, gradients_out_;  // computed, to be sent; by the stage that made them
  std::map<Place, Message> activations_in_, gradients_in_;   // by the stage that reads them
  std::vector<Message> sends_;
  double exposed_seconds_ = 0;
  std::vector<TimedAction> times_;
  double start_ = 0;
};

}  // namespace cadre::parallel
