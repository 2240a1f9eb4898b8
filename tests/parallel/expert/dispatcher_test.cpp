// In what order a dispatch computes and exchanges: the overlap that chunks are for. Values are compared with one rank
// in tests/model/expert_parallel_test.cpp.

#include "parallel/expert/dispatcher.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "parallel/comm/thread.h"

namespace cadre::parallel {
namespace {

using autograd::Tape;
using autograd::Variable;
using Log = std::vector<std::string>;

class LoggedWork final : public Work {
 public:
  LoggedWork(WorkPtr inner, std::string name, Log& log) : inner_(std::move(inner)), name_(std::move(name)), log_(log) {}
  bool done() override { return inner_->done(); }
  void wait() override {
    log_.push_back("wait " + name_);
    inner_->wait();
  }

 private:
  WorkPtr inner_;
  std::string name_;
  Log& log_;
};

// Logs the exchanges of rows.
class LoggedCommunicator final : public Communicator {
 public:
  LoggedCommunicator(Communicator& inner, Log& log) : inner_(inner), log_(log) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const Group& group() const override { return inner_.group(); }
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return inner_.split(color, key, name);
  }
  WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) override {
    return inner_.all_reduce(data, reduction, label);
  }
  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    return inner_.all_gather(send, receive, label);
  }
  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    return inner_.reduce_scatter(send, receive, label);
  }
  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    log_.push_back("start " + std::string(label.name));
    return std::make_unique<LoggedWork>(inner_.all_to_all(send, send_rows, receive, receive_rows, label), label.name,
                                        log_);
  }
  WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) override {
    return inner_.broadcast(data, root, label);
  }
  WorkPtr send(TensorView data, int to, CollectiveLabel label) override { return inner_.send(data, to, label); }
  WorkPtr receive(TensorView data, int from, CollectiveLabel label) override {
    return inner_.receive(data, from, label);
  }
  void barrier(CollectiveLabel label) override { inner_.barrier(label); }
  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel label) override {
    return inner_.gather_text(text, label);
  }
  [[noreturn]] void abort(int exit_code) override {
    inner_.abort(exit_code);
    std::abort();  // which the compiler cannot see
  }

 private:
  Communicator& inner_;
  Log& log_;
};

// x -> x, logged both ways. Its backward reads x.
class Logged final : public autograd::Op {
 public:
  Logged(std::string what, Log& log) : what_(std::move(what)), log_(log) {}
  const char* name() const override { return "logged"; }
  std::vector<autograd::TensorSpec> infer(std::span<const autograd::TensorSpec> in) const override { return {in[0]}; }
  void forward(const autograd::Forward&) const override { log_.push_back(what_); }
  int shares(size_t) const override { return 0; }
  autograd::Needs needs() const override { return {.inputs = 1}; }
  void backward_inputs(autograd::Backward& b) const override {
    b.in(0);
    log_.push_back(what_ + " gradient");
    b.pass(0, 0);
  }

 private:
  std::string what_;
  Log& log_;
};

struct Logs {
  Log forward, backward;
};

// Rank 0's, of two ranks with two experts each and one row for every expert.
Logs run(DispatchOptions options, bool recompute) {
  Logs logs;
  ThreadWorld(2).run([&](Communicator& world) {
    const auto allocator = make_host_allocator();
    ThreadPool threads(1);
    const autograd::Context context{{threads, kernels::best_isa()}, *allocator};
    Log log;
    LoggedCommunicator logged(world, log);
    const auto dispatcher = make_group_dispatcher(logged, Placement::even(4, 2), options);
    Tensor bounds = Tensor::empty(*allocator, Dtype::kI64, Shape{5});
    for (int64_t i = 0; i < 5; ++i) bounds.data<int64_t>()[i] = i;
    Tensor values = Tensor::zeros(*allocator, Dtype::kF32, Shape{4, 3});
    for (int64_t i = 0; i < 12; ++i) values.data<float>()[i] = static_cast<float>(12 * world.rank() + i);
    const Variable rows = Variable::leaf(values, true),
                   other = Variable::leaf(Tensor::zeros(*allocator, Dtype::kF32, Shape{1}), true);
    Tape tape(context);
    Variable y, shared;
    {
      const autograd::RecomputeScope scope(tape, recompute);
      y = dispatcher->run(
          tape, rows, Variable::leaf(bounds), 0,
          [&](Tape& on, ExpertRows local) {
            return on.apply<Logged>({std::move(local.rows)}, "experts from " + std::to_string(local.experts.first),
                                    log);
          },
          [&] { shared = tape.apply<Logged>({other}, "meanwhile", log); });
      y = tape.apply<Logged>({std::move(y)}, "end", log);
    }
    if (recompute) tape.discard_recomputable();
    const Log forward = std::exchange(log, {});
    tape.backward({{y, values}, {shared, other.tensor()}});
    const Tensor gradient = rows.gradient();
    EXPECT_TRUE(std::equal(values.data<float>(), values.data<float>() + 12, gradient.data<float>()));
    if (world.rank() == 0) logs = {forward, log};
  });
  return logs;
}

TEST(Dispatcher, ExchangesOfOneChunkRunUnderTheComputationOfAnother) {
  const Logs logs = run({.chunks = 2}, false);
  EXPECT_EQ(logs.forward,
            (Log{"start expert dispatch", "meanwhile", "start expert dispatch",  //
                 "wait expert dispatch", "experts from 0", "start expert combine", "wait expert dispatch",
                 "experts from 1", "start expert combine", "wait expert combine", "wait expert combine", "end"}));
  // An exchange back is labelled by where it goes.
  EXPECT_EQ(logs.backward, (Log{"end gradient", "start expert dispatch", "start expert dispatch",  //
                                "wait expert dispatch", "experts from 1 gradient", "start expert combine",
                                "wait expert dispatch", "experts from 0 gradient", "start expert combine",
                                "wait expert combine", "meanwhile gradient", "wait expert combine"}));
}

// What is computed again is so in the order of the forward.
TEST(Dispatcher, RecomputeOverlapsTheSameWay) {
  const Logs plain = run({.chunks = 2}, false), again = run({.chunks = 2}, true);
  EXPECT_EQ(again.forward, plain.forward);
  Log wanted = plain.forward;
  std::erase(wanted, "meanwhile");  // whose value nobody needs
  std::erase(wanted, "end");
  wanted.insert(wanted.end(), plain.backward.begin(), plain.backward.end());
  EXPECT_EQ(again.backward, wanted);
}

TEST(Dispatcher, OneChunkRunsWhatNeedsNoRowsUnderTheExchange) {
  const Logs logs = run({}, false);
  EXPECT_EQ(logs.forward, (Log{"start expert dispatch", "meanwhile", "wait expert dispatch", "experts from 0",
                               "start expert combine", "wait expert combine", "end"}));
  EXPECT_EQ(logs.backward,
            (Log{"end gradient", "start expert dispatch", "wait expert dispatch", "experts from 0 gradient",
                 "start expert combine", "meanwhile gradient", "wait expert combine"}));
}

TEST(Dispatcher, WaitingIsCounted) {
  ExposedTime exposed;
  ThreadWorld(1).run([&](Communicator& world) {
    const auto allocator = make_host_allocator();
    ThreadPool threads(1);
    const autograd::Context context{{threads, kernels::best_isa()}, *allocator};
    const auto dispatcher = make_group_dispatcher(world, Placement::even(1, 1), {.exposed = &exposed});
    Tensor bounds = Tensor::zeros(*allocator, Dtype::kI64, Shape{2});
    Tape tape(context);
    const Variable rows = Variable::leaf(Tensor::empty(*allocator, Dtype::kF32, Shape{0, 3}));
    dispatcher->run(
        tape, rows, Variable::leaf(bounds), 0, [](Tape&, ExpertRows local) { return local.rows; }, [] {});
  });
  EXPECT_GT(exposed.seconds, 0);
}

}  // namespace
}  // namespace cadre::parallel
