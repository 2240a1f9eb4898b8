#include "launch/monitor/progress.h"

#include <stdlib.h>
#include <unistd.h>

#include <optional>

#include "tests/launch/monitor/monitor_fixture.h"

namespace cadre::launch::monitor_testing {
namespace {

// One variable of the environment, as it was again at the end.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = ::getenv(name)) old_ = old;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Variable() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

class ProgressTest : public MonitorTest {
 protected:
  ProgressTest() {
    EXPECT_EQ(::pipe(pipe_), 0);
    logger_.open_file((directory_ / "log.txt").string());
  }
  ~ProgressTest() override {
    ::close(pipe_[0]);
    if (pipe_[1] >= 0) ::close(pipe_[1]);
  }
  std::string log() const { return contents(directory_ / "log.txt"); }
  std::string terminal() {
    ::close(pipe_[1]);
    pipe_[1] = -1;
    std::string text;
    char buffer[4096];
    for (ssize_t size; (size = ::read(pipe_[0], buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<size_t>(size));
    }
    return text;
  }

  Logger logger_;
  int pipe_[2];
};

TEST_F(ProgressTest, TextHasWhatIsKnown) {
  RateMeter rate;
  rate.add(2048, 0.125);
  EXPECT_EQ(progress_text(step(7), info(), rate, Detail::kLive),
            "step 7/100  loss 2.0000  16.4k tokens/s  49.2% of peak  1.5 GiB  ETA 12 s");
  EXPECT_EQ(progress_text(step(7), info(), rate, Detail::kFull),
            "step 7/100  loss 2.0000  lr 3.00e-04  norm 1.250  16.4k tokens/s  49.2% of peak  1.5 GiB  ETA 12 s");
  RunInfo unknown = info();
  unknown.peak_flops = 0;
  EXPECT_EQ(progress_text(step(7), unknown, rate, Detail::kLive),
            "step 7/100  loss 2.0000  16.4k tokens/s  1.5 GiB  ETA 12 s");
}

TEST_F(ProgressTest, AValidationFollowsTheLoss) {
  RateMeter rate;
  rate.add(2048, 0.125);
  EXPECT_EQ(progress_text(validated_step(7), info(), rate, Detail::kLive).substr(0, 42),
            "step 7/100  loss 2.0000  validation 2.2500");
  EXPECT_EQ(progress_text(validated_step(7), info(), rate, Detail::kFull).substr(0, 76),
            "step 7/100  loss 2.0000  validation 2.2500 (1.750 bits per byte)  lr 3.00e-0");
  StepMetrics unknown = validated_step(7);
  unknown.validation.bits_per_byte = 0;
  EXPECT_EQ(count_of(progress_text(unknown, info(), rate, Detail::kFull), "byte"), 0);
}

TEST_F(ProgressTest, AStepWithAValidationIsLogged) {
  Progress progress(logger_, 10, 0, pipe_[1], false);
  progress.on_start(info());
  for (int64_t i = 1; i <= 10; ++i) progress.on_step(i == 4 ? validated_step(i) : step(i));
  EXPECT_EQ(count_of(log(), "step 4/100"), 1);
  EXPECT_EQ(count_of(log(), "validation"), 1) << "a line is of its step";
  EXPECT_EQ(count_of(log(), "\n"), 3) << log();
}

TEST_F(ProgressTest, OnATerminalTheLatestValidationStays) {
  Progress progress(logger_, 10, 100, pipe_[1], false);
  progress.on_start(info());
  for (int64_t i = 1; i <= 6; ++i) progress.on_step(i == 4 ? validated_step(i) : step(i));
  const std::string text = terminal();
  EXPECT_EQ(count_of(text, "\rstep"), 6);
  EXPECT_EQ(count_of(text, "validation 2.2500"), 3) << text;
}

TEST_F(ProgressTest, WhatHappensToAnExpertIsAWarning) {
  using Kind = optim::ExpertEvent::Kind;
  Progress progress(logger_, 10, 0, pipe_[1], false);
  StepMetrics metrics = step(7);
  metrics.events = {{1, 3, Kind::kSkipped, 0, 0}, {2, 0, Kind::kQuarantined, 4, 17}, {2, 5, Kind::kReadmitted, 0, 0}};
  progress.on_step(metrics);
  progress.on_step(step(8));
  for (const char* wanted :
       {"step 7: layers.1.experts.3: its gradient is not finite; it goes without this step's update",
        "step 7: layers.2.experts.0: 4 of its rows are not finite; it goes back to its snapshot, in quarantine until "
        "step 17",
        "step 7: layers.2.experts.5: the quarantine is over"}) {
    EXPECT_EQ(count_of(log(), wanted), 1) << log();
  }
  EXPECT_EQ(count_of(log(), "\n"), 3) << log();
}

TEST(FitFields, LastFieldsGoFirst) {
  EXPECT_EQ(fit_fields({"step 1", "loss 2", "ETA 3"}, 21), "step 1  loss 2  ETA 3");
  EXPECT_EQ(fit_fields({"step 1", "loss 2", "ETA 3"}, 20), "step 1  loss 2");
  EXPECT_EQ(fit_fields({"step 1", "loss 2", "ETA 3"}, 13), "step 1");
  EXPECT_EQ(fit_fields({"step 1", "loss 2", "ETA 3"}, 3), "ste");
}

TEST_F(ProgressTest, WithoutATerminalALineEveryFewStepsAndTheLast) {
  Progress progress(logger_, 10, 0, pipe_[1], false);
  progress.on_start(info());
  for (int64_t i = 1; i <= 24; ++i) progress.on_step(step(i));
  progress.on_checkpoint(24, "runs/a/checkpoints/step-00000024", 0.5);
  progress.on_finish();
  const std::string text = log();
  for (const char* wanted : {"steps 1 to 100", "1.5M parameters", "peak 100GFLOP/s", "step 10/100", "step 20/100",
                             "step 24/100", "lr 3.00e-04", "checkpoint runs/a/checkpoints/step-00000024 (0.50 s)"}) {
    EXPECT_EQ(count_of(text, wanted) > 0, true) << wanted << " not in\n" << text;
  }
  EXPECT_EQ(count_of(text, "\n"), 5) << text;
  EXPECT_EQ(terminal(), "");
}

TEST_F(ProgressTest, OnATerminalOneLineIsRewritten) {
  {
    Progress progress(logger_, 1, 60, pipe_[1], true);
    progress.on_start(info());
    for (int64_t i = 1; i <= 20; ++i) progress.on_step(step(i));
    progress.on_checkpoint(20, "runs/a/checkpoints/step-00000020", 0.5);
    progress.on_finish();
  }
  EXPECT_EQ(count_of(log(), "\n"), 2) << log();
  const std::string text = terminal();
  EXPECT_EQ(count_of(text, "\rstep 7/100  loss 2.0000"), 1);
  EXPECT_EQ(text.find('\n'), text.rfind("step 20/100") + text.substr(text.rfind("step 20/100")).find('\n'))
      << "no line ends before the last state";
  for (size_t at = text.find("\rstep"); at != std::string::npos; at = text.find("\rstep", at + 1)) {
    EXPECT_LT(text.find("\x1b[K", at) - at - 1, 60u);
  }
  EXPECT_EQ(count_of(text, "█") > 0, true);
  EXPECT_EQ(count_of(text, "loss, steps 1 to 20\n"), 1) << text;
}

TEST_F(ProgressTest, FastStepsAreDrawnNowAndThen) {
  Progress progress(logger_, 1, 80, pipe_[1], false);
  progress.on_start(info());
  StepMetrics fast = step(1);
  fast.seconds = 0.001;
  for (fast.step = 1; fast.step <= 50; ++fast.step) progress.on_step(fast);
  EXPECT_EQ(count_of(terminal(), "\rstep"), 1);
}

TEST_F(ProgressTest, AnErrorStandsBelowTheLastState) {
  {
    Progress progress(logger_, 1, 80, pipe_[1], false);
    progress.on_start(info());
    progress.on_step(step(1));
  }
  EXPECT_EQ(terminal().back(), '\n');
}

TEST(Rate, FollowsTheLastSteps) {
  RateMeter rate;
  rate.add(1000, 10);  // a slow start
  EXPECT_DOUBLE_EQ(rate.tokens_per_second(), 100);
  for (int i = 0; i < 200; ++i) rate.add(1000, 1);
  EXPECT_NEAR(rate.tokens_per_second(), 1000, 1);
  EXPECT_NEAR(rate.seconds_per_step(), 1, 0.001);
}

TEST(Terminal, TheLauncherKnowsBest) {
  for (const auto& [value, columns] : {std::pair{"123", 123}, {"0", 0}, {"99999999", 1000}}) {
    const Variable variable("CADRE_TERMINAL", value);
    EXPECT_EQ(terminal_columns(), columns);
  }
  const Variable all("LC_ALL", nullptr);
  const Variable type("LC_CTYPE", "en_US.UTF-8");
  const Variable language("LANG", "C");
  EXPECT_TRUE(terminal_has_unicode());
  const Variable overriding("LC_ALL", "C");
  EXPECT_FALSE(terminal_has_unicode());
}

TEST(Quantities, ReadWell) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999.4), "999");
  EXPECT_EQ(count_text(999.6), "1k");
  EXPECT_EQ(count_text(12345.6), "12.3k");
  EXPECT_EQ(count_text(1.06e6), "1.06M");
  EXPECT_EQ(count_text(-2500), "-2.5k");
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1.0 KiB");
  EXPECT_EQ(bytes_text(1288490188), "1.2 GiB");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(205), "3:25");
  EXPECT_EQ(duration_text(3723), "1:02:03");
  EXPECT_EQ(duration_text(2 * 86400 + 3 * 3600 + 240), "2d 03:04");
  EXPECT_EQ(duration_text(-1), "?");
  EXPECT_EQ(duration_text(0.0 / 0.0), "?");
}

}  // namespace
}  // namespace cadre::launch::monitor_testing
