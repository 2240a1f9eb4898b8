// Every schedule, carried out on ranks that are threads, against the same computation done straight on.

#include "parallel/pipeline/interpreter.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>

#include "core/error.h"
#include "parallel/comm/thread.h"

namespace cadre::parallel {
namespace {

double factor(int stage) { return 1 + 0.25 * (stage + 1); }

// Stage s multiplies by factor(s) and adds the micro-batch; the loss is the sum of what leaves the last stage.
class Affine final : public StageWork {
 public:
  Affine(Allocator& allocator, int stages) : allocator_(allocator), stages_(stages) {}

  autograd::TensorSpec stream(int micro_batch) override { return {Dtype::kF64, Shape{micro_batch % 3, 2}}; }

  Tensor forward(int stage, int micro_batch, Tensor input) override {
    EXPECT_EQ(bool(input), stage > 0);
    Tensor output = make(micro_batch);
    for (int64_t i = 0; i < output.elements(); ++i) {
      const double x = stage > 0 ? input.data<double>()[i] : static_cast<double>(i + 1);
      output.data<double>()[i] = x * factor(stage) + micro_batch;
    }
    open.insert({stage, micro_batch});
    if (stage + 1 < stages_) return output;
    for (int64_t i = 0; i < output.elements(); ++i) losses[micro_batch] += output.data<double>()[i];
    return {};
  }

  Tensor backward(int stage, int micro_batch, Tensor gradient, autograd::BackwardPart part) override {
    EXPECT_EQ(bool(gradient), stage + 1 < stages_);
    EXPECT_EQ(open.erase({stage, micro_batch}), 1u) << "backward before forward, or twice";
    Tensor result = make(micro_batch);
    for (int64_t i = 0; i < result.elements(); ++i) {
      result.data<double>()[i] = (gradient ? gradient.data<double>()[i] : 1.0) * factor(stage);
    }
    if (part == autograd::BackwardPart::kAll) weights[stage].push_back(micro_batch);
    if (stage > 0) return result;
    for (int64_t i = 0; i < result.elements(); ++i) gradients[micro_batch] += result.data<double>()[i];
    return {};
  }

  void backward_weights(int stage, int micro_batch) override { weights[stage].push_back(micro_batch); }

  std::set<std::pair<int, int>> open;
  std::map<int, double> losses, gradients;  // by micro-batch
  std::map<int, std::vector<int>> weights;  // micro-batches, by stage

 private:
  Tensor make(int micro_batch) { return Tensor::empty(allocator_, Dtype::kF64, stream(micro_batch).shape); }
  Allocator& allocator_;
  int stages_;
};

struct Sums {
  double loss = 0, gradient = 0;
};

Sums straight_on(int stages, int micro_batch) {
  Sums sums;
  for (int i = 0; i < micro_batch % 3 * 2; ++i) {
    double x = i + 1, gradient = 1;
    for (int stage = 0; stage < stages; ++stage) {
      x = x * factor(stage) + micro_batch;
      gradient *= factor(stage);
    }
    sums.loss += x;
    sums.gradient += gradient;
  }
  return sums;
}

std::vector<ScheduleShape> shapes() {
  std::vector<ScheduleShape> all;
  for (const ScheduleKind kind :
       {ScheduleKind::kGPipe, ScheduleKind::k1F1B, ScheduleKind::kInterleaved, ScheduleKind::kZeroBubble}) {
    for (const int ranks : {1, 2, 3, 5}) {
      for (const int chunks : {1, 2, 3}) {
        if (chunks > 1 && kind != ScheduleKind::kInterleaved) continue;
        for (const int micro_batches : {1, 4, 7}) all.push_back({kind, ranks, chunks, micro_batches});
      }
    }
  }
  return all;
}

// Messages may have no rows: the shapes of micro-batches differ.
TEST(Interpreter, EverySchedule) {
  for (const ScheduleShape& shape : shapes()) {
    SCOPED_TRACE(std::string(config::enum_name(shape.kind)) + " " + std::to_string(shape.ranks) + " x " +
                 std::to_string(shape.chunks) + ", " + std::to_string(shape.micro_batches));
    std::mutex mutex;
    ThreadWorld(shape.ranks).run([&](Communicator& pipeline) {
      const auto allocator = make_host_allocator();
      Affine work(*allocator, shape.stages());
      Interpreter interpreter(pipeline, *allocator, make_schedule(shape));
      for (int step = 0; step < 2; ++step) interpreter.run(work);
      const std::lock_guard lock(mutex);
      EXPECT_TRUE(work.open.empty());
      for (int m = 0; m < shape.micro_batches; ++m) {
        const Sums wanted = straight_on(shape.stages(), m);
        const bool last = pipeline.rank() == shape.rank_of(shape.stages() - 1);
        EXPECT_NEAR(work.losses[m], last ? 2 * wanted.loss : 0, 1e-9);
        EXPECT_NEAR(work.gradients[m], pipeline.rank() == 0 ? 2 * wanted.gradient : 0, 1e-9);
      }
      EXPECT_EQ(static_cast<int>(work.weights.size()), shape.chunks);
      for (const auto& [stage, micro_batches] : work.weights) {
        EXPECT_EQ(shape.rank_of(stage), pipeline.rank());
        ASSERT_EQ(static_cast<int>(micro_batches.size()), 2 * shape.micro_batches);
        for (size_t i = 0; i < micro_batches.size(); ++i) {
          EXPECT_EQ(micro_batches[i], static_cast<int>(i) % shape.micro_batches) << "ascending";
        }
      }
      EXPECT_LE(allocator->stats().in_use, 64u) << "buffers of messages outlive the step";
      EXPECT_GE(interpreter.times().size(), static_cast<size_t>(2 * shape.chunks * shape.micro_batches));
    });
  }
}

TEST(Interpreter, ForwardsAlone) {
  for (const int chunks : {1, 2}) {
    const ScheduleShape shape{ScheduleKind::kGPipe, 3, chunks, 5};
    ThreadWorld(3).run([&](Communicator& pipeline) {
      const auto allocator = make_host_allocator();
      Affine work(*allocator, shape.stages());
      Interpreter(pipeline, *allocator, forward_only(shape)).run(work);
      EXPECT_EQ(work.open.size(), static_cast<size_t>(5 * chunks));
      for (int m = 0; m < 5 && pipeline.rank() == 2; ++m) {
        EXPECT_NEAR(work.losses[m], straight_on(shape.stages(), m).loss, 1e-9);
      }
    });
  }
}

TEST(Interpreter, AStageThatThrowsEndsTheOthers) {
  class Throwing final : public StageWork {
   public:
    explicit Throwing(Affine& inner) : inner_(inner) {}
    autograd::TensorSpec stream(int m) override { return inner_.stream(m); }
    Tensor forward(int stage, int m, Tensor input) override {
      if (stage == 1 && m == 1) throw DataError("token 7 of file x");
      return inner_.forward(stage, m, std::move(input));
    }
    Tensor backward(int stage, int m, Tensor gradient, autograd::BackwardPart part) override {
      return inner_.backward(stage, m, std::move(gradient), part);
    }
    void backward_weights(int stage, int m) override { inner_.backward_weights(stage, m); }

   private:
    Affine& inner_;
  };
  EXPECT_THROW(ThreadWorld(2).run([&](Communicator& pipeline) {
    const auto allocator = make_host_allocator();
    Affine work(*allocator, 2);
    Throwing throwing(work);
    Interpreter(pipeline, *allocator, make_schedule({ScheduleKind::k1F1B, 2, 1, 4})).run(throwing);
  }),
               DataError);
}

TEST(Interpreter, AScheduleOfOtherRanksIsRefused) {
  ThreadWorld(2).run([](Communicator& pipeline) {
    const auto allocator = make_host_allocator();
    EXPECT_THROW(Interpreter(pipeline, *allocator, make_schedule({ScheduleKind::k1F1B, 3, 1, 4})), InternalError);
  });
}

}  // namespace
}  // namespace cadre::parallel
