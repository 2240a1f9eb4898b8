#include "core/io/hdf5_shard_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/io/hdf5_handle.h"

namespace cadre {

struct ShardReader::State {
  Bytes image;
  std::string label;
  hdf5::File file;

  std::string subject(const std::string& path) const { return label + path; }
};

namespace {

using hdf5::fail;
using Extents = std::array<hsize_t, Shape::kMaxRank>;

// The driver is given the caller's memory itself: "allocation" returns it and "copying" does nothing.
H5FD_file_image_callbacks_t callbacks_of(Bytes& image) {
  H5FD_file_image_callbacks_t callbacks{};
  callbacks.image_malloc = [](size_t bytes, H5FD_file_image_op_t, void* user) -> void* {
    const Bytes& memory = *static_cast<const Bytes*>(user);
    return bytes == memory.size() ? const_cast<std::byte*>(memory.data()) : nullptr;
  };
  callbacks.image_memcpy = [](void* to, const void*, size_t, H5FD_file_image_op_t, void*) { return to; };
  callbacks.image_realloc = [](void*, size_t, H5FD_file_image_op_t, void*) -> void* { return nullptr; };
  callbacks.image_free = [](void*, H5FD_file_image_op_t, void*) -> herr_t { return 0; };
  callbacks.udata_copy = [](void* user) { return user; };
  callbacks.udata_free = [](void*) -> herr_t { return 0; };
  callbacks.udata = &image;
  return callbacks;
}

Extents extents_of(const Shape& shape) {
  Extents extents{};
  for (int axis = 0; axis < shape.rank(); ++axis) extents[axis] = static_cast<hsize_t>(shape[axis]);
  return extents;
}

Shape shape_of(const std::array<int64_t, Shape::kMaxRank>& e, int rank) {
  switch (rank) {
    case 0: return {};
    case 1: return {e[0]};
    case 2: return {e[0], e[1]};
    case 3: return {e[0], e[1], e[2]};
    default: return {e[0], e[1], e[2], e[3]};
  }
}

Shape read_extents(hid_t dataset, const char* name, const std::string& subject) {
  const hdf5::Attribute attribute(H5Aopen(dataset, name, H5P_DEFAULT), subject, "open an attribute");
  const hdf5::Dataspace space(H5Aget_space(attribute), subject, "read an attribute");
  const hssize_t count = H5Sget_simple_extent_npoints(space);
  if (count < 0 || count > Shape::kMaxRank) {
    throw CheckpointError(
        fmt::format("{}: attribute {} has {} values, at most {} are possible", subject, name, count, Shape::kMaxRank));
  }
  std::array<int64_t, Shape::kMaxRank> values{};
  if (count > 0 && H5Aread(attribute, H5T_NATIVE_INT64, values.data()) < 0) fail(subject, "read an attribute");
  return shape_of(values, static_cast<int>(count));
}

Dtype read_dtype(hid_t dataset, const std::string& subject) {
  const hdf5::Attribute attribute(H5Aopen(dataset, hdf5::kDtype, H5P_DEFAULT), subject, "open an attribute");
  const hdf5::Datatype stored(H5Aget_type(attribute), subject, "read an attribute");
  std::array<char, 16> text{};
  const size_t size = H5Tget_size(stored);
  if (H5Tget_class(stored) != H5T_STRING || H5Tis_variable_str(stored) != 0 || size >= text.size() ||
      H5Aread(attribute, stored, text.data()) < 0) {
    fail(subject, "read the dtype attribute");
  }
  for (int index = 0; index <= static_cast<int>(Dtype::kU8); ++index) {
    const Dtype dtype = static_cast<Dtype>(index);
    if (name_of(dtype) == text.data()) return dtype;
  }
  throw CheckpointError(fmt::format("{}: unknown dtype '{}'", subject, text.data()));
}

}  // namespace

ShardReader::ShardReader(Bytes image, std::string label) : state_(std::make_unique<State>()) {
  hdf5::prepare();
  state_->image = image;
  state_->label = std::move(label);
  if (image.empty()) throw CheckpointError(state_->label + ": is empty");
  const hdf5::PropertyList access(H5Pcreate(H5P_FILE_ACCESS), "HDF5", "make a property list");
  H5FD_file_image_callbacks_t callbacks = callbacks_of(state_->image);
  if (H5Pset_fapl_core(access, image.size(), false) < 0 || H5Pset_file_image_callbacks(access, &callbacks) < 0 ||
      H5Pset_file_image(access, const_cast<std::byte*>(image.data()), image.size()) < 0) {
    fail(state_->label, "open");
  }
  const std::string name = fmt::format("/dev/null/cadre-image-{}", static_cast<const void*>(state_.get()));
  state_->file = hdf5::File(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access), state_->label, "open");
}

ShardReader::~ShardReader() = default;

ShardDataset ShardReader::describe(const std::string& path) const {
  hdf5::prepare();
  const std::string subject = state_->subject(path);
  const hdf5::Dataset dataset(H5Dopen2(state_->file, path.c_str(), H5P_DEFAULT), subject, "open a dataset");
  ShardDataset found;
  found.path = path;
  found.dtype = read_dtype(dataset, subject);
  found.global_shape = read_extents(dataset, hdf5::kGlobalShape, subject);
  found.offset = read_extents(dataset, hdf5::kOffset, subject);
  const hdf5::Datatype type(H5Dget_type(dataset), subject, "read a datatype");
  if (H5Tequal(type, hdf5::file_type(found.dtype)) <= 0) {
    throw CheckpointError(fmt::format("{}: is not stored as {}", subject, name_of(found.dtype)));
  }
  const hdf5::Dataspace space(H5Dget_space(dataset), subject, "read a dataspace");
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank != found.global_shape.rank() || rank != found.offset.rank()) {
    throw CheckpointError(fmt::format("{}: {} axes, but global_shape has {} and offset {}", subject, rank,
                                      found.global_shape.rank(), found.offset.rank()));
  }
  Extents extents{};
  if (rank > 0) H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  std::array<int64_t, Shape::kMaxRank> values{};
  std::copy(extents.begin(), extents.end(), values.begin());
  found.shape = shape_of(values, rank);
  return found;
}

std::vector<std::string> ShardReader::list() const {
  hdf5::prepare();
  std::vector<std::string> paths;
  const H5O_iterate_t visit = [](hid_t, const char* name, const H5O_info_t* info, void* user) -> herr_t {
    if (info->type == H5O_TYPE_DATASET)
      static_cast<std::vector<std::string>*>(user)->push_back(std::string("/") + name);
    return 0;
  };
  if (H5Ovisit2(state_->file, H5_INDEX_NAME, H5_ITER_INC, visit, &paths, H5O_INFO_BASIC) < 0) {
    fail(state_->label, "list the datasets");
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void ShardReader::read(const std::string& path, const Block& block, TensorView out, const Shape& out_begin) const {
  hdf5::prepare();
  const std::string subject = state_->subject(path);
  const hdf5::Dataset dataset(H5Dopen2(state_->file, path.c_str(), H5P_DEFAULT), subject, "open a dataset");
  const hdf5::Datatype type = hdf5::file_type(out.dtype);
  const hdf5::Dataspace source(H5Dget_space(dataset), subject, "read a dataspace");
  const int rank = H5Sget_simple_extent_ndims(source);
  if (rank != out.shape.rank() || rank != block.begin.rank() || rank != block.extent.rank() ||
      rank != out_begin.rank()) {
    throw InternalError(fmt::format("{}: has {} axes; it was read as {}", subject, rank, out.shape.to_string()));
  }
  if (block.extent.elements() == 0) return;
  if (rank == 0) {
    if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data) < 0) fail(subject, "read");
    return;
  }
  const Extents start = extents_of(block.begin);
  const Extents count = extents_of(block.extent);
  const Extents out_start = extents_of(out_begin);
  const hdf5::Dataspace target = hdf5::dataspace(out.shape.with(-1, std::max(out.row_stride, out.cols())), subject);
  if (H5Sselect_hyperslab(source, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) < 0 ||
      H5Sselect_hyperslab(target, H5S_SELECT_SET, out_start.data(), nullptr, count.data(), nullptr) < 0 ||
      H5Sselect_valid(source) <= 0 || H5Sselect_valid(target) <= 0 ||
      H5Dread(dataset, type, target, source, H5P_DEFAULT, out.data) < 0) {
    fail(subject, fmt::format("read {} from {}", block.extent.to_string(), block.begin.to_string()));
  }
}

}  // namespace cadre
