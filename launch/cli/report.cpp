#include <fmt/core.h>

#include "core/config/number.h"
#include "core/error.h"
#include "core/io/file.h"
#include "launch/cli/commands.h"
#include "launch/cli/together.h"
#include "launch/report/page.h"

namespace cadre::launch {

namespace fs = std::filesystem;

int command_report(const ReportArguments& arguments) {
  Session session;
  return run_together(session, [&] {
    require_one_rank(session, "report");
    const config::Parsed<int64_t> tokens = config::parse_int64(arguments.tokens);
    if (!tokens.fault.empty() || tokens.value < 0) {
      throw ConfigError(fmt::format("--tokens: {}; wanted a whole number, 0 or more, such as 16k",
                                    tokens.fault.empty() ? "got " + arguments.tokens : tokens.fault));
    }
    DeviceSettings device;
    if (arguments.threads > 0) device.threads = arguments.threads;
    session.start(device, Dtype::kF32);
    const fs::path run = arguments.run;
    const fs::path output = arguments.output.empty() ? run / "report.html" : fs::path(arguments.output);
    const std::string page = report_html(session, {run, tokens.value});
    atomic_write(output, bytes_of(page));
    fmt::print("{}\n", output.string());
    return 0;
  });
}

}  // namespace cadre::launch
