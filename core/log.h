#pragma once
// Rank-aware log lines: "12:00:01 [rank 3] warning: text" to stderr and, once opened, to the run's log file.
// A Logger is passed, never global. Rank 0 prints info to the terminal; other ranks only warnings and errors; every
// rank writes everything to the file it opened.

#include <memory>
#include <string>
#include <string_view>

namespace cadre {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

class Logger {
 public:
  explicit Logger(int rank = 0, int ranks = 1);
  ~Logger();
  Logger(Logger&&) noexcept;
  Logger& operator=(Logger&&) noexcept;

  int rank() const;
  // Also writes to `path` (appended). A file that cannot be opened or written is a warning, never an error.
  void open_file(const std::string& path);
  void set_level(LogLevel level);
  void log(LogLevel level, std::string_view text);
  void debug(std::string_view text) { log(LogLevel::kDebug, text); }
  void info(std::string_view text) { log(LogLevel::kInfo, text); }
  void warning(std::string_view text) { log(LogLevel::kWarning, text); }
  void error(std::string_view text) { log(LogLevel::kError, text); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cadre
