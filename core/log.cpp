#include "core/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace cadre {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

struct Logger::State {
  int rank;
  std::string pattern;
  std::shared_ptr<spdlog::sinks::sink> terminal;
  std::shared_ptr<spdlog::logger> logger;
};

Logger::Logger(int rank, int ranks) : state_(std::make_unique<State>()) {
  state_->rank = rank;
  state_->pattern = ranks > 1 ? "%H:%M:%S [rank " + std::to_string(rank) + "] %l: %v" : "%H:%M:%S %l: %v";
  state_->terminal = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  state_->terminal->set_level(rank == 0 ? spdlog::level::info : spdlog::level::warn);
  state_->logger = std::make_shared<spdlog::logger>("cadre", state_->terminal);
  state_->logger->set_pattern(state_->pattern);
  state_->logger->set_error_handler([](const std::string&) {});
  state_->logger->flush_on(spdlog::level::info);
}

Logger::~Logger() = default;
Logger::Logger(Logger&&) noexcept = default;
Logger& Logger::operator=(Logger&&) noexcept = default;

int Logger::rank() const { return state_->rank; }

void Logger::open_file(const std::string& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    sink->set_pattern(state_->pattern);
    state_->logger->sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& failure) {
    warning(std::string("no log file: ") + failure.what());
  }
}

void Logger::set_level(LogLevel level) {
  state_->logger->set_level(spdlog_level(level));
  if (state_->rank == 0) state_->terminal->set_level(spdlog_level(level));
}

void Logger::log(LogLevel level, std::string_view text) { state_->logger->log(spdlog_level(level), text); }

}  // namespace cadre
