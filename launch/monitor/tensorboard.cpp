#include "launch/monitor/tensorboard.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "launch/monitor/load_spread.h"
#include "launch/monitor/quantity.h"

namespace cadre::launch {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

// Protobuf's wire format: a key (field number, wire type), then the value.
enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7) text += static_cast<char>(value | 0x80);
  return text + static_cast<char>(value);
}
std::string key(uint32_t field, WireType type) { return varint(field << 3 | static_cast<uint32_t>(type)); }
std::string integer_field(uint32_t field, int64_t value) {
  return key(field, WireType::kVarint) + varint(static_cast<uint64_t>(value));
}
std::string double_field(uint32_t field, double value) {
  return key(field, WireType::kFixed64) + little_endian(std::bit_cast<uint64_t>(value), 8);
}
std::string float_field(uint32_t field, float value) {
  return key(field, WireType::kFixed32) + little_endian(std::bit_cast<uint32_t>(value), 4);
}
std::string bytes_field(uint32_t field, std::string_view value) {
  return key(field, WireType::kBytes) + varint(value.size()) + std::string(value);
}

// Field numbers of Event, Summary, Summary.Value and SessionLog.
constexpr uint32_t kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5, kEventSessionLog = 7;
constexpr uint32_t kSummaryValue = 1, kValueTag = 1, kValueSimpleValue = 2;
constexpr uint32_t kSessionLogStatus = 1;
constexpr int64_t kSessionStart = 1;

double wall_time_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 && name[0] != 0 ? name : "localhost";
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

std::string tfrecord(std::string_view payload) {
  std::string record = little_endian(payload.size(), 8);
  record += little_endian(masked_crc32c(record), 4);
  record += payload;
  return record + little_endian(masked_crc32c(payload), 4);
}

std::string version_event(double wall_time) {
  return double_field(kEventWallTime, wall_time) + bytes_field(kEventFileVersion, "brain.Event:2");
}

std::string session_start_event(double wall_time, int64_t first_step) {
  return double_field(kEventWallTime, wall_time) + integer_field(kEventStep, first_step) +
         bytes_field(kEventSessionLog, integer_field(kSessionLogStatus, kSessionStart));
}

std::string scalars_event(double wall_time, int64_t step, const std::vector<Scalar>& scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    summary += bytes_field(kSummaryValue, bytes_field(kValueTag, scalar.tag) +
                                              float_field(kValueSimpleValue, static_cast<float>(scalar.value)));
  }
  return double_field(kEventWallTime, wall_time) + integer_field(kEventStep, step) +
         bytes_field(kEventSummary, summary);
}

std::vector<Scalar> scalars_of(const StepMetrics& m, const RunInfo& info) {
  std::vector<Scalar> scalars = {{"loss", m.loss},
                                 {"balance_loss", m.balance_loss},
                                 {"z_loss", m.z_loss},
                                 {"lr", m.learning_rate},
                                 {"grad_norm", m.gradient_norm},
                                 {"clip", m.clip_factor},
                                 {"tokens_per_second", m.tokens_per_second()},
                                 {"seconds", m.seconds},
                                 {"data_wait", m.data_wait_seconds},
                                 {"exposed_communication", m.exposed_communication_seconds},
                                 {"rank_imbalance", m.rank_imbalance},
                                 {"memory_in_use", static_cast<double>(m.memory_in_use)},
                                 {"memory_peak", static_cast<double>(m.memory_peak)}};
  const double share = share_of_peak(m.tokens_per_second(), info);
  if (std::isfinite(share)) scalars.push_back({"mfu", share});
  if (m.joules > 0) scalars.push_back({"joules_per_token", m.joules_per_token()});
  if (m.validation.tokens > 0) {
    scalars.push_back({"validation/loss", m.validation.loss});
    scalars.push_back({"validation/perplexity", m.validation.perplexity});
    scalars.push_back({"validation/seconds", m.validation.seconds});
    if (m.validation.bits_per_byte > 0) scalars.push_back({"validation/bits_per_byte", m.validation.bits_per_byte});
  }
  for (const LayerLoad& load : m.experts) {
    const double choices = static_cast<double>(std::accumulate(load.tokens.begin(), load.tokens.end(), int64_t{0}));
    if (!(choices > 0)) continue;
    const auto [least, most] = std::minmax_element(load.tokens.begin(), load.tokens.end());
    const std::string prefix = fmt::format("experts/layer_{}/", load.layer);
    scalars.push_back({prefix + "max_share", static_cast<double>(*most) / choices});
    scalars.push_back({prefix + "min_share", static_cast<double>(*least) / choices});
    scalars.push_back({prefix + "dropped_share", static_cast<double>(load.dropped) / choices});
    const LoadSpread spread = load_spread(load.tokens);
    scalars.push_back({prefix + "utilisation", spread.utilisation});
    scalars.push_back({prefix + "cv", spread.variation});
    scalars.push_back({prefix + "js", spread.divergence});
    if (!load.detail) continue;
    scalars.push_back({prefix + "entropy", load.detail->entropy});
    for (size_t place = 0; place < load.detail->mass.size(); ++place) {
      scalars.push_back({fmt::format("{}mass/expert_{}", prefix, load.id(place)), load.detail->mass[place]});
    }
  }
  return scalars;
}

void TensorBoardFile::on_start(const RunInfo& info) {
  info_ = info;
  const double now = wall_time_now();
  const std::string name = fmt::format("events.out.tfevents.{}.{}", static_cast<int64_t>(now), host_name());
  file_ = std::make_unique<SinkFile>(std::filesystem::path(info.directory) / name);
  file_->append(tfrecord(version_event(now)) + tfrecord(session_start_event(now, info.first_step)));
}

void TensorBoardFile::on_step(const StepMetrics& metrics) {
  file_->append(tfrecord(scalars_event(wall_time_now(), metrics.step, scalars_of(metrics, info_))));
}

}  // namespace cadre::launch
