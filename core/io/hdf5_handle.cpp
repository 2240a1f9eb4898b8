#include "core/io/hdf5_handle.h"

#include <fmt/core.h>

#include <array>

#include "core/error.h"

namespace cadre::hdf5 {

void prepare() {
  static const bool once = [] { return H5dont_atexit() >= 0; }();
  (void)once;
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

void fail(const std::string& subject, const std::string& action) {
  std::string reason;
  const H5E_walk2_t innermost = [](unsigned, const H5E_error2_t* error, void* text) -> herr_t {
    if (error->desc != nullptr) *static_cast<std::string*>(text) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, innermost, &reason);
  H5Eclear2(H5E_DEFAULT);
  throw CheckpointError(
      fmt::format("{}: cannot {}: HDF5: {}", subject, action, reason.empty() ? "no reason given" : reason));
}

Datatype file_type(Dtype dtype) {
  const auto copy = [](hid_t type) { return Datatype(H5Tcopy(type), "HDF5", "copy a datatype"); };
  switch (dtype) {
    case Dtype::kF64: return copy(H5T_IEEE_F64LE);
    case Dtype::kF32: return copy(H5T_IEEE_F32LE);
    case Dtype::kI64: return copy(H5T_STD_I64LE);
    case Dtype::kI32: return copy(H5T_STD_I32LE);
    case Dtype::kBF16:
    case Dtype::kU16: return copy(H5T_STD_U16LE);
    case Dtype::kU8: return copy(H5T_STD_U8LE);
    case Dtype::kF16: break;
  }
  // IEEE 754 binary16: sign bit 15, five exponent bits from 10 with bias 15, ten mantissa bits.
  Datatype half = copy(H5T_IEEE_F32LE);
  if (H5Tset_fields(half, 15, 10, 5, 0, 10) < 0 || H5Tset_size(half, 2) < 0 || H5Tset_ebias(half, 15) < 0) {
    fail("HDF5", "make the half-precision datatype");
  }
  return half;
}

Dataspace dataspace(const Shape& shape, const std::string& subject) {
  if (shape.rank() == 0) return Dataspace(H5Screate(H5S_SCALAR), subject, "make a dataspace");
  std::array<hsize_t, Shape::kMaxRank> extents{};
  for (int axis = 0; axis < shape.rank(); ++axis) extents[axis] = static_cast<hsize_t>(shape[axis]);
  return Dataspace(H5Screate_simple(shape.rank(), extents.data(), nullptr), subject, "make a dataspace");
}

}  // namespace cadre::hdf5
