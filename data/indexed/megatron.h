#pragma once
// Reads a Megatron .bin/.idx pair (format.h). The .idx is mapped and checked whole when it is opened; the .bin is read
// where it is asked for.

#include <vector>

#include "data/files.h"
#include "data/indexed/format.h"
#include "data/indexed/token_dataset.h"

namespace cadre::data {

class MegatronDataset final : public TokenDataset {
 public:
  explicit MegatronDataset(const std::filesystem::path& prefix);

  const std::string& name() const override { return name_; }
  int64_t tokens() const override { return static_cast<int64_t>(index_.tokens()); }
  int64_t documents() const override { return static_cast<int64_t>(index_.documents()); }
  int64_t document_start(int64_t document) const override;
  void read(int64_t begin, std::span<int32_t> out) const override;
  std::string fingerprint() const override;

  TokenType type() const { return index_.type(); }
  int64_t sequences() const { return static_cast<int64_t>(index_.sequences()); }

 private:
  uint64_t sequence_start(uint64_t sequence) const;

  std::string name_;
  MappedFile index_file_;
  InputFile tokens_file_;
  IndexView index_;
  std::vector<uint64_t> sequence_starts_;  // tokens [sequences + 1]; only when the .bin is not contiguous
};

}  // namespace cadre::data
