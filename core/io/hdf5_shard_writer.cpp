#include "core/io/hdf5_shard_writer.h"

#include <fmt/core.h>

#include <cstring>
#include <set>

#include "core/error.h"
#include "core/io/hdf5_handle.h"

namespace cadre {

// The core driver's memory, lent through its image callbacks, so that every shard is built in the same warm pages
// (fresh ones cost more than the copy) and the image outlives the file that made it.
struct ShardWriter::Memory {
  explicit Memory(Allocator& from) : allocator(from) {}

  void* grow(size_t bytes) noexcept {
    try {
      if (!buffer || buffer->bytes() < bytes) {
        std::shared_ptr<Buffer> larger = allocator.allocate(bytes);
        if (used > 0) std::memcpy(larger->data(), buffer->data(), used);
        buffer = std::move(larger);
      }
    } catch (const std::exception&) {
      return nullptr;
    }
    used = bytes;
    return buffer->data();
  }

  Allocator& allocator;
  std::shared_ptr<Buffer> buffer;
  size_t used = 0;
};

namespace {

using hdf5::fail;

template <class Memory>
H5FD_file_image_callbacks_t callbacks_of(Memory& memory) {
  H5FD_file_image_callbacks_t callbacks{};
  callbacks.image_malloc = [](size_t bytes, H5FD_file_image_op_t, void* user) {
    return static_cast<Memory*>(user)->grow(bytes);
  };
  callbacks.image_memcpy = [](void* to, const void* from, size_t bytes, H5FD_file_image_op_t, void*) {
    return std::memcpy(to, from, bytes);
  };
  callbacks.image_realloc = [](void*, size_t bytes, H5FD_file_image_op_t, void* user) {
    return static_cast<Memory*>(user)->grow(bytes);
  };
  callbacks.image_free = [](void*, H5FD_file_image_op_t, void*) -> herr_t { return 0; };
  callbacks.udata_copy = [](void* user) { return user; };
  callbacks.udata_free = [](void*) -> herr_t { return 0; };
  callbacks.udata = &memory;
  return callbacks;
}

hdf5::PropertyList without_times(hid_t kind) {
  hdf5::PropertyList list(H5Pcreate(kind), "HDF5", "make a property list");
  if (H5Pset_obj_track_times(list, false) < 0) fail("HDF5", "leave object times out");
  return list;
}

void write_extents(hid_t dataset, const char* name, const Shape& extents, const std::string& path) {
  std::array<int64_t, Shape::kMaxRank> values{};
  for (int axis = 0; axis < extents.rank(); ++axis) values[axis] = extents[axis];
  const hsize_t count = static_cast<hsize_t>(extents.rank());
  const hdf5::Dataspace space(H5Screate_simple(1, &count, nullptr), path, "make a dataspace");
  const hdf5::Attribute attribute(H5Acreate2(dataset, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT), path,
                                  "create an attribute");
  if (count > 0 && H5Awrite(attribute, H5T_NATIVE_INT64, values.data()) < 0) fail(path, "write an attribute");
}

void write_dtype(hid_t dataset, Dtype dtype, const std::string& path) {
  const std::string name(name_of(dtype));
  const hdf5::Datatype type(H5Tcopy(H5T_C_S1), path, "copy a datatype");
  if (H5Tset_size(type, name.size()) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0) fail(path, "size a text type");
  const hdf5::Dataspace space(H5Screate(H5S_SCALAR), path, "make a dataspace");
  const hdf5::Attribute attribute(H5Acreate2(dataset, hdf5::kDtype, type, space, H5P_DEFAULT, H5P_DEFAULT), path,
                                  "create an attribute");
  if (H5Awrite(attribute, type, name.data()) < 0) fail(path, "write an attribute");
}

class Builder {
 public:
  explicit Builder(hid_t file)
      : file_(file), group_list_(without_times(H5P_GROUP_CREATE)), dataset_list_(without_times(H5P_DATASET_CREATE)) {
    if (H5Pset_fill_time(dataset_list_, H5D_FILL_TIME_NEVER) < 0) fail("HDF5", "turn fill values off");
  }

  void add(const ShardDataset& item) {
    make_groups(item.path);
    const hdf5::Datatype type = hdf5::file_type(item.dtype);
    const hdf5::Dataspace space = hdf5::dataspace(item.shape, item.path);
    const hdf5::Dataset dataset(
        H5Dcreate2(file_, item.path.c_str(), type, space, H5P_DEFAULT, dataset_list_, H5P_DEFAULT), item.path,
        "create a dataset");
    if (item.shape.elements() > 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, item.data) < 0) {
      fail(item.path, "write a dataset");
    }
    write_extents(dataset, hdf5::kGlobalShape, item.global_shape, item.path);
    write_extents(dataset, hdf5::kOffset, item.offset, item.path);
    write_dtype(dataset, item.dtype, item.path);
  }

 private:
  void make_groups(const std::string& path) {
    for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      const std::string name = path.substr(0, slash);
      if (!groups_.insert(name).second) continue;
      const hdf5::Group group(H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, group_list_, H5P_DEFAULT), name,
                              "create a group");
    }
  }

  hid_t file_;
  hdf5::PropertyList group_list_;
  hdf5::PropertyList dataset_list_;
  std::set<std::string> groups_;
};

size_t bound_of(const std::vector<ShardDataset>& datasets) {
  size_t bytes = ShardWriter::kFileOverhead;
  for (const ShardDataset& item : datasets) {
    bytes += static_cast<size_t>(item.shape.elements()) * size_of(item.dtype) + ShardWriter::kDatasetOverhead;
  }
  return bytes;
}

}  // namespace

ShardWriter::ShardWriter(Allocator& allocator) : memory_(std::make_unique<Memory>(allocator)) {}
ShardWriter::~ShardWriter() = default;

Bytes ShardWriter::build(const std::vector<ShardDataset>& datasets) {
  hdf5::prepare();
  memory_->used = 0;
  const hdf5::PropertyList access(H5Pcreate(H5P_FILE_ACCESS), "HDF5", "make a property list");
  H5FD_file_image_callbacks_t callbacks = callbacks_of(*memory_);
  if (H5Pset_file_image_callbacks(access, &callbacks) < 0 || H5Pset_fapl_core(access, bound_of(datasets), false) < 0) {
    fail("HDF5", "set up a file in memory");
  }
  const hdf5::PropertyList creation = without_times(H5P_FILE_CREATE);
  // No such path can exist; the address tells apart the files that live at the same time.
  const std::string name = fmt::format("/dev/null/cadre-shard-{}", static_cast<const void*>(memory_.get()));
  hdf5::File file(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, creation, access), "HDF5", "create a file in memory");
  {
    Builder builder(file);
    for (const ShardDataset& item : datasets) builder.add(item);
  }
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) fail("HDF5", "finish a file in memory");
  const ssize_t size = H5Fget_file_image(file, nullptr, 0);
  if (size <= 0 || static_cast<size_t>(size) > memory_->used) fail("HDF5", "measure a file in memory");
  if (!file.close()) fail("HDF5", "close a file in memory");
  return {static_cast<const std::byte*>(memory_->buffer->data()), static_cast<size_t>(size)};
}

}  // namespace cadre
