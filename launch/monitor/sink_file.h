#pragma once
// Files of observers, which may fail without harm.

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/log.h"
#include "launch/monitor/observer.h"

namespace cadre::launch {

// Names the path and the system's reason. Ends a sink, never a run; see guarded().
class SinkError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A file that grows by whole records. Every failure is a SinkError, as is writing to a file that has been deleted.
class SinkFile {
 public:
  // Created where missing, else appended to.
  explicit SinkFile(std::filesystem::path path);
  ~SinkFile();
  SinkFile(const SinkFile&) = delete;
  SinkFile& operator=(const SinkFile&) = delete;

  // Hands the record to the system before it returns. A record that did not fit is taken back.
  void append(std::string_view record);

 private:
  std::filesystem::path path_;
  int descriptor_;
};

// Passes everything on until `inner` throws; then warns once ("NAME: reason; ...") and passes nothing on. `logger` must
// outlive it.
std::unique_ptr<Observer> guarded(std::string name, std::unique_ptr<Observer> inner, Logger& logger);

}  // namespace cadre::launch
