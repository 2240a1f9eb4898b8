#include "core/io/hash.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "core/error.h"

namespace cadre {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;  // stays in the second-level cache between read and hash

std::string to_hex(XXH128_hash_t hash) { return fmt::format("{:016x}{:016x}", hash.high64, hash.low64); }

struct FreeState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

[[noreturn]] void fail(const std::filesystem::path& path, int code) {
  throw CheckpointError(fmt::format("{}: cannot read: {}", path.string(), std::generic_category().message(code)));
}

}  // namespace

std::string xxh3_128(Bytes bytes) { return to_hex(XXH3_128bits(bytes.data(), bytes.size())); }

std::string xxh3_128_of_file(const std::filesystem::path& path) {
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (!state || XXH3_128bits_reset(state.get()) != XXH_OK) throw CheckpointError("out of memory for a hash");
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(path, errno);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::vector<std::byte> piece(kReadBytes);
  ssize_t got = 0;
  while ((got = ::read(descriptor, piece.data(), piece.size())) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    XXH3_128bits_update(state.get(), piece.data(), static_cast<size_t>(got));
  }
  const int code = errno;
  ::close(descriptor);
  if (got < 0) fail(path, code);
  return to_hex(XXH3_128bits_digest(state.get()));
}

}  // namespace cadre
