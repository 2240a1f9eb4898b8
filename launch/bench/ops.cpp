#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "autograd/profiler.h"
#include "launch/bench/bench.h"
#include "launch/bench/peer_case.h"
#include "launch/bench/timing.h"

namespace cadre::launch {

nlohmann::json bench_ops(Session& session, const BenchOptions& options) {
  PeerCase peer(session);
  for (int i = 0; i < 3; ++i) peer.step();
  autograd::Profiler profiler;
  std::vector<double> steps, updates;
  const auto& state = peer.state();
  for (double spent = 0; spent < options.seconds || steps.size() < 5; spent += steps.back() + updates.back()) {
    session.context().profiler = &profiler;
    steps.push_back(peer.step());
    session.context().profiler = nullptr;
    // Once more with the same gradients, for its time alone.
    updates.push_back(seconds_of([&] { peer.state().optimizer().step(state.step + 1, 100000); }));
  }
  double all_steps = 0, all_ops = 0, all_updates = 0;
  for (const double seconds : steps) all_steps += seconds;
  for (const double seconds : updates) all_updates += seconds;
  nlohmann::json ops = nlohmann::json::object();
  for (const auto& [name, time] : profiler.times()) {
    all_ops += time.seconds;
    ops[name] = {{"calls", time.calls}, {"seconds", time.seconds}, {"flops", time.flops}, {"bytes", time.bytes}};
  }
  const double rest = all_steps - all_ops - all_updates;
  if (options.print) {
    fmt::print(
        "{}{} steps: {:.1f} ms in ops ({:.1f}%), {:.1f} ms in the optimizer ({:.1f}%), {:.1f} ms elsewhere "
        "({:.1f}%)\n",
        profiler.table(), steps.size(), 1e3 * all_ops, 100 * all_ops / all_steps, 1e3 * all_updates,
        100 * all_updates / all_steps, 1e3 * rest, 100 * rest / all_steps);
  }
  return {
      {"case", "ops"},         {"threads", session.threads()},     {"steps", steps.size()}, {"step_seconds", all_steps},
      {"op_seconds", all_ops}, {"optimizer_seconds", all_updates}, {"ops", std::move(ops)}};
}

}  // namespace cadre::launch
