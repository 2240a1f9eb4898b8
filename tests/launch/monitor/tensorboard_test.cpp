#include "launch/monitor/tensorboard.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>

#include "tests/launch/monitor/monitor_fixture.h"

namespace cadre::launch::monitor_testing {
namespace {

// Bit by bit and straight from the definition, so that it shares nothing with the table.
uint32_t slow_crc32c(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}
uint32_t unmasked(uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return rotated >> 17 | rotated << 15;
}

// A reader of protobuf's wire format.
struct Reader {
  const std::string& text;
  size_t at = 0;
  bool more() const { return at < text.size(); }
  template <class T>
  T fixed() {
    T value;
    std::memcpy(&value, text.substr(at, sizeof(T)).data(), sizeof(T));
    at += sizeof(T);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(text.at(at++));
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }
  std::string bytes() {
    const size_t size = varint();
    at += size;
    return text.substr(at - size, size);
  }
};

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  std::optional<int64_t> session_status;
  std::map<std::string, float> scalars;
};

void read_value(const std::string& text, Event& event) {
  Reader reader{text};
  EXPECT_EQ(reader.varint(), 1u << 3 | 2);
  const std::string tag = reader.bytes();
  EXPECT_EQ(reader.varint(), 2u << 3 | 5);
  EXPECT_TRUE(event.scalars.emplace(tag, reader.fixed<float>()).second) << tag;
  EXPECT_FALSE(reader.more());
}

Event read_event(const std::string& payload) {
  Event event;
  for (Reader reader{payload}; reader.more();) {
    switch (reader.varint()) {
      case 1 << 3 | 1: event.wall_time = reader.fixed<double>(); break;
      case 2 << 3 | 0: event.step = static_cast<int64_t>(reader.varint()); break;
      case 3 << 3 | 2: event.version = reader.bytes(); break;
      case 5 << 3 | 2: {
        const std::string summary = reader.bytes();
        for (Reader values{summary}; values.more();) {
          EXPECT_EQ(values.varint(), 1u << 3 | 2);
          read_value(values.bytes(), event);
        }
        break;
      }
      case 7 << 3 | 2: {
        const std::string log = reader.bytes();
        Reader status{log};
        EXPECT_EQ(status.varint(), 1u << 3 | 0);
        event.session_status = static_cast<int64_t>(status.varint());
        break;
      }
      default: ADD_FAILURE() << "unknown field before byte " << reader.at; return event;
    }
  }
  return event;
}

std::vector<Event> read_events(const std::string& file) {
  std::vector<Event> events;
  for (Reader reader{file}; reader.more();) {
    const std::string length_bytes = file.substr(reader.at, 8);
    const auto length = reader.fixed<uint64_t>();
    EXPECT_EQ(unmasked(reader.fixed<uint32_t>()), slow_crc32c(length_bytes));
    if (length > file.size() - reader.at) {
      ADD_FAILURE() << "a record of " << length << " bytes";
      return events;
    }
    const std::string payload = file.substr(reader.at, length);
    reader.at += length;
    EXPECT_EQ(unmasked(reader.fixed<uint32_t>()), slow_crc32c(payload));
    events.push_back(read_event(payload));
  }
  return events;
}

// RFC 3720, appendix B.4, and the catalogue's check value.
TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  EXPECT_EQ(unmasked(masked_crc32c("123456789")), 0xE3069283u);
}

class TensorBoardTest : public MonitorTest {
 protected:
  std::filesystem::path only_file() const {
    std::filesystem::path found;
    for (const auto& item : std::filesystem::directory_iterator(directory_)) {
      EXPECT_TRUE(found.empty());
      found = item.path();
    }
    return found;
  }
};

TEST_F(TensorBoardTest, AnIndependentReaderFindsTheScalars) {
  TensorBoardFile file;
  file.on_start(info(300));
  file.on_step(step(300));
  file.on_step(step(301));
  const std::string name = only_file().filename().string();
  EXPECT_EQ(name.rfind("events.out.tfevents.", 0), 0u) << name;
  EXPECT_EQ(name.find_first_not_of("0123456789", 20), name.find('.', 20)) << name;
  EXPECT_LT(name.find('.', 20) + 1, name.size()) << name;

  const std::vector<Event> events = read_events(contents(only_file()));
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.5e9);
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 300) << "older events from this step on are forgotten";
  EXPECT_EQ(events[3].step, 301);
  const auto& scalars = events[3].scalars;
  EXPECT_EQ(scalars.at("loss"), static_cast<float>(step(301).loss));
  EXPECT_EQ(scalars.at("lr"), 3e-4f);
  EXPECT_EQ(scalars.at("grad_norm"), 1.25f);
  EXPECT_EQ(scalars.at("tokens_per_second"), 16384.0f);
  EXPECT_FLOAT_EQ(scalars.at("mfu"), 0.49152f);
  EXPECT_EQ(scalars.at("experts/layer_1/max_share"), 0.4f);
  EXPECT_EQ(scalars.at("experts/layer_1/min_share"), 0.1f);
  EXPECT_EQ(scalars.at("experts/layer_1/dropped_share"), 0.03f);
  EXPECT_EQ(scalars.at("experts/layer_2/max_share"), 0.25f);
}

TEST_F(TensorBoardTest, OddValuesAreWritten) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string file = tfrecord(scalars_event(1, int64_t{1} << 40, {{"", nan}, {std::string(300, 't'), -0.5}}));
  const std::vector<Event> events = read_events(file);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].step, int64_t{1} << 40);
  EXPECT_TRUE(std::isnan(events[0].scalars.at("")));
  EXPECT_EQ(events[0].scalars.at(std::string(300, 't')), -0.5f);
}

TEST_F(TensorBoardTest, AValidationHasScalarsOfItsOwn) {
  std::map<std::string, double> found;
  for (const Scalar& scalar : scalars_of(validated_step(1), info())) found[scalar.tag] = scalar.value;
  EXPECT_EQ(found.at("validation/loss"), 2.25);
  EXPECT_EQ(found.at("validation/perplexity"), 9.5);
  EXPECT_EQ(found.at("validation/bits_per_byte"), 1.75);
  EXPECT_EQ(found.at("validation/seconds"), 0.5);
  for (const Scalar& scalar : scalars_of(step(1), info())) EXPECT_EQ(scalar.tag.find("validation"), std::string::npos);
}

TEST_F(TensorBoardTest, ALayerWithoutTokensHasNoShares) {
  StepMetrics m = step(1);
  m.experts = {{1, {0, 0}, 0}, {2, {}, 0}};
  for (const Scalar& scalar : scalars_of(m, info())) EXPECT_EQ(scalar.tag.find("experts"), std::string::npos);
}

}  // namespace
}  // namespace cadre::launch::monitor_testing
