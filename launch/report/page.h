#pragma once
// A report on a run: one HTML page that needs nothing else.

#include <filesystem>
#include <string>

#include "launch/session.h"

namespace cadre::launch {

struct ReportOptions {
  std::filesystem::path run;  // its directory
  int64_t tokens = 16 << 10;  // of each source, to see what experts take; 0: none
};

// Throws DataError when the run's metrics cannot be read. What else is missing, the page says.
std::string report_html(Session& session, const ReportOptions& options);

}  // namespace cadre::launch
