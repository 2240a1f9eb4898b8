#pragma once
// A folder for files that a benchmark writes; gone with the object.

#include <filesystem>

namespace cadre::launch {

class ScratchDirectory {
 public:
  // Below the working directory, whose disk is the one that a run would use. Throws ConfigError when it cannot be made.
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace cadre::launch
