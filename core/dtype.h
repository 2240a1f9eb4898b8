#pragma once
// Element types of tensors.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cadre {

enum class Dtype : uint8_t { kF64, kF32, kBF16, kF16, kI64, kI32, kU16, kU8 };

constexpr size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF64:
    case Dtype::kI64: return 8;
    case Dtype::kF32:
    case Dtype::kI32: return 4;
    case Dtype::kBF16:
    case Dtype::kF16:
    case Dtype::kU16: return 2;
    case Dtype::kU8: return 1;
  }
  return 0;
}

constexpr std::string_view name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF64: return "f64";
    case Dtype::kF32: return "f32";
    case Dtype::kBF16: return "bf16";
    case Dtype::kF16: return "f16";
    case Dtype::kI64: return "i64";
    case Dtype::kI32: return "i32";
    case Dtype::kU16: return "u16";
    case Dtype::kU8: return "u8";
  }
  return "?";
}

template <class T>
struct DtypeOf;
template <>
struct DtypeOf<double> {
  static constexpr Dtype value = Dtype::kF64;
};
template <>
struct DtypeOf<float> {
  static constexpr Dtype value = Dtype::kF32;
};
template <>
struct DtypeOf<int64_t> {
  static constexpr Dtype value = Dtype::kI64;
};
template <>
struct DtypeOf<int32_t> {
  static constexpr Dtype value = Dtype::kI32;
};
template <>
struct DtypeOf<uint16_t> {
  static constexpr Dtype value = Dtype::kU16;
};
template <>
struct DtypeOf<uint8_t> {
  static constexpr Dtype value = Dtype::kU8;
};

}  // namespace cadre
