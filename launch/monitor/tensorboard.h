#pragma once
// TensorBoard event files with scalars. A file is a sequence of TFRecords (tensorflow/core/lib/io/record_writer.h):
//   u64 length, u32 masked CRC32C of the length, payload, u32 masked CRC32C of the payload, all little-endian,
// each payload an Event (tensorflow/core/util/event.proto) in protobuf's wire format.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launch/monitor/observer.h"
#include "launch/monitor/sink_file.h"

namespace cadre::launch {

// Castagnoli's polynomial, reflected (RFC 3720, B.4): crc32c("123456789") = 0xE3069283.
uint32_t crc32c(std::string_view bytes);

// A CRC stored beside what it covers is disguised, lest a CRC over both be constant.
inline uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string tfrecord(std::string_view payload);

struct Scalar {
  std::string tag;
  double value;
};

// Events, as payloads. The first of a file names its version; the start of a session makes readers forget the steps
// from `first_step` on that an interrupted session has left in older files.
std::string version_event(double wall_time);
std::string session_start_event(double wall_time, int64_t first_step);
std::string scalars_event(double wall_time, int64_t step, const std::vector<Scalar>& scalars);

// What is shown of a step. An expert's share is that of all choices of its layer.
std::vector<Scalar> scalars_of(const StepMetrics& metrics, const RunInfo& info);

// Writes DIRECTORY/events.out.tfevents.SECONDS.HOST.
class TensorBoardFile final : public Observer {
 public:
  void on_start(const RunInfo& info) override;
  void on_step(const StepMetrics& metrics) override;

 private:
  RunInfo info_;
  std::unique_ptr<SinkFile> file_;
};

}  // namespace cadre::launch
