#include "launch/plan/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "parallel/pipeline/draw.h"

namespace cadre::launch {
namespace {

constexpr double kMb = 1e6;

std::string in_seconds(double seconds) {
  return seconds < 1 ? fmt::format("{:.1f} ms", 1e3 * seconds) : fmt::format("{:.2f} s", seconds);
}

std::string row(const Estimate& e) {
  return fmt::format("{:<26}{:>7}{:>9}{:>12}{:>12}{:>14.0f}{:>10.1f}%{:>10.1f}%\n", e.candidate.layout.to_string(),
                     e.candidate.micro_batch_size, e.micro_batches, in_gib(e.peak_bytes()), in_seconds(e.time.step),
                     e.tokens / e.time.step, 100 * e.share_of_peak, 100 * e.time.bubble);
}

std::string memory_text(const Estimate& estimate) {
  std::string text = fmt::format("{:<16}{:>10}{:>11}{:>10}{:>10}{:>13}{:>15}{:>9}{:>10}\n", "memory, MB", "weights",
                                 "gradients", "moments", "packed", "activations", "communication", "other", "total");
  for (size_t rank = 0; rank < estimate.memory.size(); ++rank) {
    const MemoryEstimate& m = estimate.memory[rank];
    text += fmt::format("{:<16}{:>10.1f}{:>11.1f}{:>10.1f}{:>10.1f}{:>13.1f}{:>15.1f}{:>9.1f}{:>10.1f}\n",
                        fmt::format("pipeline rank {}", rank), m.weights / kMb, m.gradients / kMb, m.moments / kMb,
                        m.packed / kMb, m.activations / kMb, m.communication / kMb, m.other / kMb, m.total() / kMb);
  }
  return text;
}

// Of the pipeline rank that sends most.
const parallel::Traffic& busiest(const Estimate& estimate, size_t& rank) {
  std::vector<double> sent(estimate.traffic.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    for (const auto& [key, count] : estimate.traffic[i]) sent[i] += count.bytes;
  }
  rank = static_cast<size_t>(std::max_element(sent.begin(), sent.end()) - sent.begin());
  return estimate.traffic[rank];
}

std::string traffic_text(const Estimate& estimate) {
  size_t rank = 0;
  const parallel::Traffic& traffic = busiest(estimate, rank);
  if (traffic.empty()) return "";
  std::string text = fmt::format("{:<14}{:<24}{:>10}{:>12}   a step, sent by pipeline rank {}\n", "axis", "collective",
                                 "calls", "MB", rank);
  for (const auto& [key, count] : traffic) {
    text += fmt::format("{:<14}{:<24}{:>10}{:>12.2f}\n", key.first, key.second, count.calls, count.bytes / kMb);
  }
  return text;
}

nlohmann::json memory_json(const MemoryEstimate& m) {
  return {
      {"weights", m.weights},         {"gradients", m.gradients},         {"moments", m.moments}, {"packed", m.packed},
      {"activations", m.activations}, {"communication", m.communication}, {"other", m.other},     {"total", m.total()}};
}

nlohmann::json traffic_json(const parallel::Traffic& traffic) {
  nlohmann::json all = nlohmann::json::array();
  for (const auto& [key, count] : traffic) {
    all.push_back({{"axis", key.first}, {"collective", key.second}, {"calls", count.calls}, {"bytes", count.bytes}});
  }
  return all;
}

}  // namespace

std::string ranking_text(const Ranking& ranking, const Estimator& estimator, size_t most) {
  const Device& device = estimator.device();
  std::string text = fmt::format("{}: {} of memory and {:.4g} TFLOP/s a rank\n", device.name,
                                 in_gib(device.memory_bytes), 1e-12 * device.peak_flops);
  text += fmt::format("{:<26}{:>7}{:>9}{:>12}{:>12}{:>14}{:>11}{:>11}\n", "layout", "micro", "a step", "memory", "step",
                      "tokens/s", "of peak", "bubble");
  for (size_t i = 0; i < std::min(most, ranking.fitting.size()); ++i) text += row(ranking.fitting[i]);
  if (ranking.fitting.size() > most) text += fmt::format("and {} slower ones\n", ranking.fitting.size() - most);
  if (ranking.fitting.empty()) text += "none fits\n";
  if (!ranking.too_large.empty())
    text += fmt::format("{} do not fit; the smallest of them:\n", ranking.too_large.size());
  constexpr size_t kShown = 3;
  for (size_t i = 0; i < std::min(kShown, ranking.too_large.size()); ++i) {
    const Estimate& e = ranking.too_large[i];
    text += fmt::format("  {}, micro {}: {}\n", e.candidate.layout.to_string(), e.candidate.micro_batch_size,
                        why_too_large(e, device.memory_bytes));
  }
  for (const auto& [reason, count] : ranking.impossible) text += fmt::format("{} cannot be: {}\n", count, reason);
  return text;
}

std::string estimate_text(const Estimate& e, Estimator& estimator) {
  const TimeEstimate& t = e.time;
  std::string text =
      fmt::format("{}, micro-batches of {}, {} a step and rank; {:.2f} M parameters on the fullest rank\n",
                  e.candidate.layout.to_string(), e.candidate.micro_batch_size, e.micro_batches,
                  1e-6 * static_cast<double>(e.parameters));
  text +=
      fmt::format("step {}: pipeline {} (expert exchange {}, packing {}, bubble {:.1f}%), gradients {}, update {}\n",
                  in_seconds(t.step), in_seconds(t.pipeline), in_seconds(t.dispatch), in_seconds(t.packing),
                  100 * t.bubble, in_seconds(t.gradients), in_seconds(t.update));
  text += fmt::format("{:.0f} tokens/s, {:.4g} TFLOP a rank and step, {:.1f}% of {}'s peak\n\n", e.tokens / t.step,
                      1e-12 * e.flops, 100 * e.share_of_peak, estimator.device().name);
  text += memory_text(e) + "\n" + traffic_text(e);
  if (e.candidate.layout.pipeline == 1) return text;
  const auto [schedule, timeline] = estimator.timeline(e);
  std::string stages;
  for (const int64_t layers : e.layers_per_stage) stages += fmt::format(" {}", layers);
  text += fmt::format("\nlayers of stages:{}\n", stages);
  if (schedule.shape.micro_batches < e.micro_batches) {
    text += fmt::format("the first {} of {} micro-batches:\n", schedule.shape.micro_batches, e.micro_batches);
  }
  return text + parallel::draw(schedule, timeline);
}

nlohmann::json to_json(const Estimate& e) {
  nlohmann::json memory = nlohmann::json::array(), traffic = nlohmann::json::array();
  for (const MemoryEstimate& m : e.memory) memory.push_back(memory_json(m));
  for (const parallel::Traffic& t : e.traffic) traffic.push_back(traffic_json(t));
  const parallel::Layout& layout = e.candidate.layout;
  return {{"data_parallel", layout.data},
          {"expert_parallel", layout.expert},
          {"pipeline_parallel", layout.pipeline},
          {"micro_batch_size", e.candidate.micro_batch_size},
          {"micro_batches", e.micro_batches},
          {"layers_per_stage", e.layers_per_stage},
          {"parameters", e.parameters},
          {"memory", std::move(memory)},
          {"traffic", std::move(traffic)},
          {"seconds",
           {{"step", e.time.step},
            {"pipeline", e.time.pipeline},
            {"packing", e.time.packing},
            {"gradients", e.time.gradients},
            {"update", e.time.update},
            {"dispatch", e.time.dispatch}}},
          {"bubble", e.time.bubble},
          {"flops", e.flops},
          {"tokens", e.tokens},
          {"share_of_peak", e.share_of_peak}};
}

nlohmann::json to_json(const Ranking& ranking, size_t most) {
  nlohmann::json fitting = nlohmann::json::array(), too_large = nlohmann::json::array();
  for (size_t i = 0; i < std::min(most, ranking.fitting.size()); ++i) fitting.push_back(to_json(ranking.fitting[i]));
  for (size_t i = 0; i < std::min(most, ranking.too_large.size()); ++i) {
    too_large.push_back(to_json(ranking.too_large[i]));
  }
  return {{"fitting", std::move(fitting)}, {"too_large", std::move(too_large)}, {"impossible", ranking.impossible}};
}

}  // namespace cadre::launch
