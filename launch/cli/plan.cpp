#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/config/config.h"
#include "core/error.h"
#include "data/tokenizer.h"
#include "launch/cli/commands.h"
#include "launch/cli/together.h"
#include "launch/plan/report.h"
#include "launch/session.h"

namespace cadre::launch {
namespace {

constexpr int kMostRanks = 1 << 20;

Settings load_settings(const PlanArguments& arguments) {
  auto settings = config::parse<Settings>(config::load<Settings>(arguments.config.path, arguments.config.overrides));
  if (settings.model.vocab_size.is_auto()) {
    settings.model.vocab_size = data::make_tokenizer(settings.data.tokenizer)->vocab_size();
  }
  return settings;
}

// Ranks of this machine share its cores and its memory.
Device device_of(const PlanArguments& arguments, Settings& settings, Session& session) {
  const Dtype dtype = settings.precision.dtype();
  Device device;
  if (arguments.device == "cpu") {
    const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int node_ranks = std::min(arguments.ranks, cores);
    if (settings.device.threads.is_auto()) settings.device.threads = cores / node_ranks;
    session.start(settings.device, dtype);
    ProfileShape shape;
    shape.sequences = settings.batch.micro_batch_size.value_or(1);
    shape.seq_length = settings.data.seq_length;
    shape.reset_at_documents = settings.data.reset_at_documents;
    shape.dtype = dtype;
    device = measured_cpu(settings.network(), shape, session.context().exec, node_ranks,
                          machine_memory_bytes() / node_ranks);
  } else {
    device = device_named(arguments.device, dtype);
    settings.device.threads = 1;
    session.start(settings.device, dtype);
  }
  if (!settings.device.memory_gib.is_auto()) device.memory_bytes = *settings.device.memory_gib.value * (1 << 30);
  return device;
}

void print(const nlohmann::json& json) { fmt::print("{}\n", json.dump(1)); }

}  // namespace

int command_plan(const PlanArguments& arguments) {
  Session session;
  return run_together(session, [&] {
    require_one_rank(session, "plan");
    if (arguments.ranks < 1 || arguments.ranks > kMostRanks) {
      throw ConfigError(fmt::format("--ranks: {}; wanted 1 to {}", arguments.ranks, kMostRanks));
    }
    Settings settings = load_settings(arguments);
    SearchSpace space;
    space.ranks = arguments.ranks;
    if (!arguments.layout.empty()) space.layout = parallel::parse_layout(arguments.layout);
    space.micro_batch_size = settings.batch.micro_batch_size.value;
    const Device device = device_of(arguments, settings, session);
    Estimator estimator(settings, device, session.context().exec);
    const Ranking ranking = rank_layouts(estimator, space);
    if (arguments.layout.empty()) {
      if (arguments.json) print(to_json(ranking, arguments.top));
      if (!arguments.json) fmt::print("{}", ranking_text(ranking, estimator, arguments.top));
      return 0;
    }
    const Estimate& one = ranking.fitting.empty() ? ranking.too_large.front() : ranking.fitting.front();
    if (arguments.json) print(to_json(one));
    if (!arguments.json) fmt::print("{}", estimate_text(one, estimator));
    if (!arguments.json && ranking.fitting.empty()) {
      fmt::print("does not fit: {}\n", why_too_large(one, device.memory_bytes));
    }
    return 0;
  });
}

}  // namespace cadre::launch
