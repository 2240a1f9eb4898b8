#pragma once
// What a person sees of a running training.

#include <string>
#include <vector>

#include "core/log.h"
#include "launch/monitor/observer.h"
#include "launch/monitor/quantity.h"

namespace cadre::launch {

// Columns of the terminal that standard error writes to; 0: it is none. Under mpirun a rank cannot tell, so the
// environment variable CADRE_TERMINAL, where it is a number, is believed first.
int terminal_columns();

// Whether the locale of the environment (LC_ALL, LC_CTYPE, LANG) writes UTF-8.
bool terminal_has_unicode();

enum class Detail { kLive, kFull };
// What happened to an isolated expert in a step: which, what, why, until when.
std::string event_text(const optim::ExpertEvent& event, int64_t step);

// "step 120/1000  loss 2.3456  validation 2.4567  12.3k tokens/s  45.6% of peak  1.2 GiB  ETA 3:25"; kFull adds the
// learning rate, the norm of the gradient, and a validation's bits per byte. What is not known is left out. The rates
// and the time left come from `rate`, without the time of validations.
std::string progress_text(const StepMetrics& metrics, const RunInfo& info, const RateMeter& rate, Detail detail);

// `fields` joined by two spaces, leaving out the last ones until the text fits `columns`; the first one is cut if need
// be.
std::string fit_fields(const std::vector<std::string>& fields, size_t columns);

// On a terminal of `columns` > 0: one line on `descriptor`, rewritten in place, and the curve of the loss at the end.
// Otherwise: a log line every `log_every` steps, for each step with a validation, and for the last step. In both cases
// a line for the start, for each checkpoint, and, as a warning, for each event of an isolated expert. Failing to write
// to the descriptor is ignored. `logger` must outlive it.
class Progress final : public Observer {
 public:
  Progress(Logger& logger, int64_t log_every, int columns, int descriptor, bool unicode);
  ~Progress() override;

  void on_start(const RunInfo& info) override;
  void on_step(const StepMetrics& metrics) override;
  void on_checkpoint(int64_t step, const std::string& directory, double seconds) override;
  void on_finish() override;

 private:
  void draw();
  void clear();
  void log_step();
  void warn_of_events();

  Logger& logger_;
  int64_t log_every_;
  int columns_;
  int descriptor_;
  bool unicode_;
  RunInfo info_;
  RateMeter rate_;
  StepMetrics last_;
  int64_t logged_step_ = 0;
  double undrawn_seconds_;  // of training since the line was drawn
  bool drawn_ = false;
  std::vector<double> losses_;
};

}  // namespace cadre::launch
