#include <fmt/core.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <set>

#include "core/error.h"
#include "launch/checkpoint/inspect.h"
#include "launch/checkpoint/reader.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kBlockBytes = int64_t{32} << 20;  // compared at a time
constexpr size_t kValueLength = 80;

// IEEE 754 binary16.
double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  double magnitude = 0;
  if (exponent == 31) {
    magnitude = fraction == 0 ? HUGE_VAL : std::nan("");
  } else {
    magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

double value_at(const std::byte* data, Dtype dtype, size_t index) {
  const auto load = [&](auto value) {
    std::memcpy(&value, data + index * sizeof value, sizeof value);
    return value;
  };
  switch (dtype) {
    case Dtype::kF64: return load(double{});
    case Dtype::kF32: return load(float{});
    case Dtype::kBF16: return std::bit_cast<float>(static_cast<uint32_t>(load(uint16_t{})) << 16);
    case Dtype::kF16: return half_value(load(uint16_t{}));
    case Dtype::kI64: return static_cast<double>(load(int64_t{}));
    case Dtype::kI32: return load(int32_t{});
    case Dtype::kU16: return load(uint16_t{});
    case Dtype::kU8: return load(uint8_t{});
  }
  return 0;
}

struct TensorDifference {
  int64_t elements = 0;  // whose bits differ
  double largest = 0;    // absolute; infinite when a NaN meets a number
};

void compare(const std::vector<std::byte>& a, const std::vector<std::byte>& b, Dtype dtype, TensorDifference& found) {
  if (a == b) return;
  const size_t width = size_of(dtype);
  for (size_t index = 0; index < a.size() / width; ++index) {
    if (std::memcmp(a.data() + index * width, b.data() + index * width, width) == 0) continue;
    ++found.elements;
    const double distance = std::abs(value_at(a.data(), dtype, index) - value_at(b.data(), dtype, index));
    found.largest = std::max(found.largest, std::isnan(distance) ? HUGE_VAL : distance);
  }
}

TensorDifference compare(CheckpointReader& first, CheckpointReader& second, const std::string& name) {
  const ManifestTensor& tensor = first.tensor(name);
  const int64_t width = static_cast<int64_t>(size_of(tensor.dtype));
  const int64_t elements = tensor.shape.elements();
  TensorDifference found;
  std::vector<std::byte> a;
  std::vector<std::byte> b;
  for (int64_t begin = 0; begin < elements; begin += kBlockBytes / width) {
    const int64_t count = std::min(elements - begin, kBlockBytes / width);
    a.resize(static_cast<size_t>(count * width));
    b.resize(a.size());
    first.read_flat(name, begin, {a.data(), tensor.dtype, {count}, count});
    second.read_flat(name, begin, {b.data(), tensor.dtype, {count}, count});
    compare(a, b, tensor.dtype, found);
  }
  return found;
}

class Report {
 public:
  explicit Report(Inspection& inspection) : inspection_(inspection) {}
  void add(const std::string& line) {
    inspection_.text += line + "\n";
    inspection_.ok = false;
  }

 private:
  Inspection& inspection_;
};

void compare_tensors(CheckpointReader& first, CheckpointReader& second, Report& report) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : first.manifest().tensors) names.insert(name);
  for (const auto& [name, tensor] : second.manifest().tensors) names.insert(name);
  for (const std::string& name : names) {
    if (!first.has(name) || !second.has(name)) {
      report.add(fmt::format("{}: only in the {}", name, first.has(name) ? "first" : "second"));
      continue;
    }
    const ManifestTensor& a = first.tensor(name);
    const ManifestTensor& b = second.tensor(name);
    if (a.dtype != b.dtype || a.shape != b.shape) {
      report.add(fmt::format("{}: {} {} and {} {}", name, name_of(a.dtype), a.shape.to_string(), name_of(b.dtype),
                             b.shape.to_string()));
      continue;
    }
    const TensorDifference found = compare(first, second, name);
    if (found.elements > 0) {
      report.add(fmt::format("{}: {} of {} elements differ, by at most {:.9g}", name, found.elements,
                             a.shape.elements(), found.largest));
    }
  }
}

std::string to_text(const Json* value) {
  if (value == nullptr) return "nothing";
  std::string text = value->dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > kValueLength ? text.substr(0, kValueLength) + "..." : text;
}

// Down to the innermost keys that differ.
void compare_json(const Json* a, const Json* b, const std::string& where, Report& report) {
  if (a != nullptr && b != nullptr && *a == *b) return;
  if (a == nullptr || b == nullptr || !a->is_object() || !b->is_object()) {
    report.add(fmt::format("{}: {} and {}", where, to_text(a), to_text(b)));
    return;
  }
  std::set<std::string> keys;
  for (const auto& [key, value] : a->items()) keys.insert(key);
  for (const auto& [key, value] : b->items()) keys.insert(key);
  for (const std::string& key : keys) {
    const auto in_a = a->find(key);
    const auto in_b = b->find(key);
    compare_json(in_a == a->end() ? nullptr : &*in_a, in_b == b->end() ? nullptr : &*in_b, where + "." + key, report);
  }
}

Json comparable(const CheckpointHeader& header) {
  Json state = header.state;
  for (const char* key : {"run_id", "time"}) state.erase(key);
  return state;
}

}  // namespace

Inspection checkpoint_diff(const fs::path& first, const fs::path& second) {
  CheckpointReader a(first);
  CheckpointReader b(second);
  Inspection result;
  Report report(result);
  const CheckpointHeader& left = a.manifest().header;
  const CheckpointHeader& right = b.manifest().header;
  if (left.step != right.step) report.add(fmt::format("step: {} and {}", left.step, right.step));
  if (left.config_hash != right.config_hash) {
    report.add(fmt::format("config hash: {} and {}", left.config_hash, right.config_hash));
  }
  const Json left_state = comparable(left);
  const Json right_state = comparable(right);
  compare_json(&left_state, &right_state, "state", report);
  compare_tensors(a, b, report);
  if (result.ok) result.text = fmt::format("identical: {} tensors, step {}\n", a.manifest().tensors.size(), left.step);
  return result;
}

}  // namespace cadre::launch
