#pragma once
// A whole config: one struct for each section.

#include "core/config/fields.h"
#include "data/settings.h"
#include "kernels/exec.h"
#include "model/settings.h"
#include "optim/settings.h"
#include "parallel/expert/dispatcher.h"
#include "parallel/pipeline/schedule_kind.h"

namespace cadre::launch {

struct RunSettings {
  std::string directory = "runs/default";
  uint64_t seed = 1;
  int64_t steps = 1000;
  std::optional<int64_t> stop_after;
  std::optional<int64_t> time_limit_seconds;
};

enum class DeviceKind { kAuto, kCpu };
enum class IsaChoice { kAuto, kPortable, kAvx2, kAvx512 };

struct DeviceSettings {
  DeviceKind kind = DeviceKind::kAuto;
  config::Auto<int64_t> threads;
  config::Auto<double> memory_gib{};
  IsaChoice isa = IsaChoice::kAuto;
};

struct BatchSettings {
  int64_t global_batch_size = 8;
  config::Auto<int64_t> micro_batch_size = 8;
};

enum class StageCosts { kCounted, kMeasured };

enum class PlacementKind { kEven, kTable, kBalanced };

struct PlacementSettings {
  PlacementKind kind = PlacementKind::kEven;
  std::vector<std::vector<int64_t>> holders;  // table: ranks of an expert group, by expert
  int64_t every = 100;
  int64_t replicas = 0;
};

struct ParallelSettings {
  config::Auto<int64_t> data_parallel;
  config::Auto<int64_t> expert_parallel = 1;
  config::Auto<int64_t> pipeline_parallel = 1;
  parallel::ScheduleKind schedule = parallel::ScheduleKind::k1F1B;
  int64_t stages_per_rank = 1;
  config::Auto<std::vector<int64_t>> layers_per_stage;
  StageCosts stage_costs = StageCosts::kCounted;
  parallel::DispatcherKind dispatcher = parallel::DispatcherKind::kAllToAll;
  int64_t overlap_chunks = 1;
  std::optional<int64_t> max_dispatch_tokens;
  PlacementSettings placement;
  int64_t zero = 1;
  config::Auto<bool> reproducible;
  double bucket_mib = 4;
  std::optional<int64_t> timeout_seconds;

  parallel::DispatchOptions dispatch() const {
    return {dispatcher, max_dispatch_tokens.value_or(0), overlap_chunks, reproducible.value_or(false)};
  }
};

enum class ComputeType { kFp32, kFp64 };

struct PrecisionSettings {
  ComputeType compute = ComputeType::kFp32;
  Dtype dtype() const { return compute == ComputeType::kFp64 ? Dtype::kF64 : Dtype::kF32; }
};

struct CheckpointSettings {
  int64_t every = 200;
  int64_t keep = 3;
  int64_t permanent_every = 0;
  bool background = true;
  int64_t shard_mib = 256;
};

struct ValidationSettings {
  int64_t every = 200;
  int64_t tokens = 64 << 10;
};

struct MonitorSettings {
  bool metrics = true;
  bool tensorboard = true;
  int64_t log_every = 10;
  int64_t experts_every = 10;
  std::optional<std::string> prometheus;
  double peak_gflops = 0;
};

struct Settings {
  RunSettings run;
  DeviceSettings device;
  data::DataSettings data;
  model::ModelSettings model;
  model::MoeSettings moe;
  BatchSettings batch;
  ParallelSettings parallel;
  PrecisionSettings precision;
  model::RecomputeSettings recompute;
  optim::OptimizerSettings optimizer;
  CheckpointSettings checkpoint;
  ValidationSettings validation;
  MonitorSettings monitor;

  model::NetworkSettings network() const { return {model, moe, recompute}; }
};

}  // namespace cadre::launch

namespace cadre::config {
template <>
struct EnumNames<launch::DeviceKind> {
  using enum launch::DeviceKind;
  static constexpr EnumName<launch::DeviceKind> values[] = {{kAuto, "auto"}, {kCpu, "cpu"}};
};
template <>
struct EnumNames<launch::IsaChoice> {
  using enum launch::IsaChoice;
  static constexpr EnumName<launch::IsaChoice> values[] = {
      {kAuto, "auto"}, {kPortable, "portable"}, {kAvx2, "avx2"}, {kAvx512, "avx512"}};
};
template <>
struct EnumNames<parallel::DispatcherKind> {
  using enum parallel::DispatcherKind;
  static constexpr EnumName<parallel::DispatcherKind> values[] = {{kAllToAll, "all_to_all"},
                                                                  {kAllGather, "all_gather"}};
};
template <>
struct EnumNames<launch::ComputeType> {
  using enum launch::ComputeType;
  static constexpr EnumName<launch::ComputeType> values[] = {{kFp32, "fp32"}, {kFp64, "fp64"}};
};
template <>
struct Schema<launch::RunSettings> {
  static void fields(Fields<launch::RunSettings>& f);
};
template <>
struct Schema<launch::DeviceSettings> {
  static void fields(Fields<launch::DeviceSettings>& f);
};
template <>
struct Schema<launch::BatchSettings> {
  static void fields(Fields<launch::BatchSettings>& f);
  static void check(const launch::BatchSettings& s, Problems& problems);
};
template <>
struct EnumNames<launch::StageCosts> {
  using enum launch::StageCosts;
  static constexpr EnumName<launch::StageCosts> values[] = {{kCounted, "counted"}, {kMeasured, "measured"}};
};
template <>
struct EnumNames<launch::PlacementKind> {
  using enum launch::PlacementKind;
  static constexpr EnumName<launch::PlacementKind> values[] = {
      {kEven, "even"}, {kTable, "table"}, {kBalanced, "balanced"}};
};
template <>
struct Schema<launch::PlacementSettings> {
  static void fields(Fields<launch::PlacementSettings>& f);
  static void check(const launch::PlacementSettings& s, Problems& problems);
};
template <>
struct Schema<launch::ParallelSettings> {
  static void fields(Fields<launch::ParallelSettings>& f);
  static void check(const launch::ParallelSettings& s, Problems& problems);
};
template <>
struct Schema<launch::PrecisionSettings> {
  static void fields(Fields<launch::PrecisionSettings>& f);
};
template <>
struct Schema<launch::CheckpointSettings> {
  static void fields(Fields<launch::CheckpointSettings>& f);
};
template <>
struct Schema<launch::ValidationSettings> {
  static void fields(Fields<launch::ValidationSettings>& f);
};
template <>
struct Schema<launch::MonitorSettings> {
  static void fields(Fields<launch::MonitorSettings>& f);
  static void check(const launch::MonitorSettings& s, Problems& problems);
};
template <>
struct Schema<launch::Settings> {
  static void fields(Fields<launch::Settings>& f);
  static void check(const launch::Settings& s, Problems& problems);
};
}  // namespace cadre::config
