#include "launch/bench/bench.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "launch/cli/commands.h"
#include "launch/cli/together.h"

namespace cadre::launch {
namespace {

struct Benchmark {
  const char* name;
  nlohmann::json (*run)(Session&, const BenchOptions&);
};

constexpr Benchmark kBenchmarks[] = {
    {"peer", bench_peer},
    {"ops", bench_ops},
    {"gemm", bench_gemm},
    {"layer", bench_layer},
    {"optimizer", bench_optimizer},
    {"pipeline", bench_pipeline},
    {"skew", bench_skew},
    {"prepare", bench_prepare},
    {"checkpoint", bench_checkpoint},
};

}  // namespace

int command_bench(const BenchArguments& arguments) {
  DeviceSettings device;
  if (arguments.threads > 0) device.threads = arguments.threads;
  Session session;
  return run_together(session, [&] {
    require_one_rank(session, "bench");
    session.start(device, Dtype::kF32);
    nlohmann::json results = nlohmann::json::array();
    std::string names = "all";
    for (const Benchmark& benchmark : kBenchmarks) {
      names += std::string(", ") + benchmark.name;
      if (arguments.what != "all" && arguments.what != benchmark.name) continue;
      results.push_back(benchmark.run(session, {arguments.seconds, !arguments.json, arguments.text}));
    }
    if (results.empty()) throw ConfigError("bench: got '" + arguments.what + "', wanted one of " + names);
    if (arguments.json) std::puts(results.dump(1).c_str());
    return 0;
  });
}

}  // namespace cadre::launch
