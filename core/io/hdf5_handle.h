#pragma once
// HDF5 identifiers as owners, and its errors as CheckpointError. Included only by core/io's own .cpp files.

#include <hdf5.h>

#include <string>
#include <utility>

#include "core/dtype.h"
#include "core/shape.h"

namespace cadre::hdf5 {

// First call of every entry point. Keeps HDF5 from closing files at exit (its handler crashes after a failed write)
// and, for the calling thread, from printing its error stack.
void prepare();

// Throws CheckpointError "<subject>: cannot <action>: HDF5: <innermost reason>".
[[noreturn]] void fail(const std::string& subject, const std::string& action);

template <herr_t (*kClose)(hid_t)>
class Handle {
 public:
  Handle() = default;
  Handle(hid_t id, const std::string& subject, const char* action) : id_(id) {
    if (id < 0) fail(subject, action);
  }
  ~Handle() {
    if (id_ >= 0) kClose(id_);
  }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  operator hid_t() const { return id_; }
  bool close() { return kClose(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_ = -1;
};

using File = Handle<H5Fclose>;
using Group = Handle<H5Gclose>;
using Dataset = Handle<H5Dclose>;
using Dataspace = Handle<H5Sclose>;
using Attribute = Handle<H5Aclose>;
using Datatype = Handle<H5Tclose>;
using PropertyList = Handle<H5Pclose>;

// The little-endian type in the file; bf16 is stored as u16 (the dtype attribute tells them apart), f16 as IEEE half.
Datatype file_type(Dtype dtype);
// A dataspace of the shape; rank 0 is a scalar.
Dataspace dataspace(const Shape& shape, const std::string& subject);

inline constexpr const char* kGlobalShape = "global_shape";
inline constexpr const char* kOffset = "offset";
inline constexpr const char* kDtype = "dtype";

}  // namespace cadre::hdf5
