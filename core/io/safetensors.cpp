#include "core/io/safetensors.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/hash.h"

namespace cadre {
namespace {

using Json = nlohmann::json;

constexpr size_t kLongestHeader = 100'000'000;
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kHash = "xxh3_128";

struct NamedType {
  Dtype dtype;
  const char* name;
};
constexpr NamedType kTypes[] = {{Dtype::kF64, "F64"}, {Dtype::kF32, "F32"}, {Dtype::kBF16, "BF16"},
                                {Dtype::kF16, "F16"}, {Dtype::kI64, "I64"}, {Dtype::kI32, "I32"},
                                {Dtype::kU16, "U16"}, {Dtype::kU8, "U8"}};

const char* type_name(Dtype dtype) {
  return std::find_if(std::begin(kTypes), std::end(kTypes), [&](const NamedType& type) { return type.dtype == dtype; })
      ->name;
}

Shape shape_of(const std::vector<int64_t>& axes) {
  Shape shape = axes.empty()       ? Shape{}
                : axes.size() == 1 ? Shape{0}
                : axes.size() == 2 ? Shape{0, 0}
                : axes.size() == 3 ? Shape{0, 0, 0}
                                   : Shape{0, 0, 0, 0};
  for (size_t axis = 0; axis < axes.size(); ++axis) shape = shape.with(static_cast<int>(axis), axes[axis]);
  return shape;
}

Json shape_json(const Shape& shape) {
  Json list = Json::array();
  for (int axis = 0; axis < shape.rank(); ++axis) list.push_back(shape[axis]);
  return list;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       TextMap metadata) {
  std::vector<std::byte> data;
  Json header = Json::object();
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    data.resize(begin + tensor.bytes());
    if (tensor.bytes() > 0) std::memcpy(data.data() + begin, tensor.raw(), tensor.bytes());
    header[name] = {{"dtype", type_name(tensor.dtype())},
                    {"shape", shape_json(tensor.shape())},
                    {"data_offsets", {begin, data.size()}}};
  }
  metadata[kHash] = xxh3_128(data);
  header[kMetadata] = metadata;
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::vector<std::byte> file(sizeof length + text.size() + data.size());
  std::memcpy(file.data(), &length, sizeof length);
  std::memcpy(file.data() + sizeof length, text.data(), text.size());
  if (!data.empty()) std::memcpy(file.data() + sizeof length + text.size(), data.data(), data.size());
  atomic_write(path, file);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const auto fail = [&](const std::string& why) {
    throw CheckpointError(fmt::format("{}: is no whole safetensors file: {}", path.string(), why));
  };
  try {
    read_header();
  } catch (const Json::exception& failure) {
    fail(failure.what());
  } catch (const std::invalid_argument& failure) {
    fail(failure.what());
  }
  const Bytes data = file_.bytes().subspan(data_);
  const auto hash = metadata_.find(kHash);
  if (hash != metadata_.end() && hash->second != xxh3_128(data)) fail("its data have another hash than it says");
}

void SafetensorsFile::read_header() {
  const Bytes bytes = file_.bytes();
  uint64_t length = 0;
  if (bytes.size() < sizeof length) throw std::invalid_argument("it has no header");
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > kLongestHeader || length > bytes.size() - sizeof length)
    throw std::invalid_argument(fmt::format("a header of {} bytes in a file of {}", length, bytes.size()));
  data_ = sizeof length + static_cast<size_t>(length);
  const Json header = Json::parse(reinterpret_cast<const char*>(bytes.data()) + sizeof length,
                                  reinterpret_cast<const char*>(bytes.data()) + data_);
  for (const auto& [name, item] : header.items()) {
    if (name == kMetadata) {
      metadata_ = item.get<TextMap>();
      continue;
    }
    Entry entry;
    const auto type = item.at("dtype").get<std::string>();
    const auto known =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const NamedType& t) { return t.name == type; });
    if (known == std::end(kTypes)) throw std::invalid_argument(fmt::format("{}: unknown type {}", name, type));
    entry.dtype = known->dtype;
    const auto axes = item.at("shape").get<std::vector<int64_t>>();
    if (axes.size() > Shape::kMaxRank) throw std::invalid_argument(fmt::format("{}: {} axes", name, axes.size()));
    size_t elements = 1;
    for (const int64_t axis : axes) {
      if (axis < 0 || (axis > 0 && elements > bytes.size() / static_cast<size_t>(axis)))
        throw std::invalid_argument(name + ": is larger than the file");
      elements *= static_cast<size_t>(axis);
    }
    entry.shape = shape_of(axes);
    entry.begin = item.at("data_offsets").at(0).get<size_t>();
    entry.end = item.at("data_offsets").at(1).get<size_t>();
    if (entry.end < entry.begin || entry.end - entry.begin != elements * size_of(entry.dtype))
      throw std::invalid_argument(name + ": its offsets do not fit its shape");
    entries_[name] = entry;
  }
  check_offsets(bytes.size() - data_);
}

void SafetensorsFile::check_offsets(size_t size) const {
  std::vector<std::pair<size_t, size_t>> ranges;
  for (const auto& [name, entry] : entries_) ranges.emplace_back(entry.begin, entry.end);
  std::sort(ranges.begin(), ranges.end());
  size_t at = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != at) throw std::invalid_argument("its tensors overlap or leave gaps");
    at = end;
  }
  if (at != size) throw std::invalid_argument(fmt::format("{} bytes of data, {} are spoken of", size, at));
}

}  // namespace cadre
