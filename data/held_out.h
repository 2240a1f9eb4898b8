#pragma once
// Held-out token files as one list of windows (eval_windows.h), and the part of it that is scored: all windows, or a
// number of them spread evenly over the files, the same ones every time.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/eval_windows.h"
#include "data/tokenizer.h"

namespace cadre::data {

class HeldOut {
 public:
  struct Options {
    int seq_length = 256;
    int stride = 0;  // as EvalWindows::Options
    int32_t vocab_size = 0;
    bool reset_at_documents = false;
    int64_t tokens = 0;  // score at most so many, but one window at least; 0: all
  };

  // Throws DataError when a file is missing or damaged, or was made by another tokenizer; `whose` is what the error
  // calls `tokenizer`.
  HeldOut(const std::vector<std::string>& paths, const Tokenizer& tokenizer, std::string_view whose,
          const Options& options);

  const Options& options() const { return options_; }
  int64_t windows() const { return windows_; }  // that are scored
  // Of those, [first, first + count), clipped. Throws DataError that names file and position.
  Batch load(int64_t first, int64_t count) const;

  // Bytes of the source text behind the scored tokens, as the files' metadata has them; 0 unless all tokens are scored
  // and all files have metadata.
  uint64_t source_bytes() const { return windows_ == first_window_.back() ? source_bytes_ : 0; }
  // Reads every ranks-th window from `rank` on, so that all ranks together meet every bad token (DataError). The bytes
  // that the targets decode to; 0 for files without metadata, which may be of any tokenizer.
  uint64_t check(int rank, int ranks) const;

  // Of all files: equal on ranks that score the same tokens.
  std::string fingerprint() const;

 private:
  Options options_;
  std::vector<std::shared_ptr<const TokenDataset>> datasets_;
  std::vector<EvalWindows> sources_;
  std::vector<int64_t> first_window_{0};  // of each source, and the end
  int64_t windows_ = 0;
  uint64_t source_bytes_ = 0;               // of all files; 0 unknown
  std::vector<uint32_t> bytes_of_token_{};  // empty unless all files have metadata
};

// Throws DataError when the token file's metadata names another tokenizer; files without metadata (not made by `cadre
// data prepare`) are believed.
void check_made_by(const std::string& path, const Tokenizer& tokenizer, std::string_view whose);

}  // namespace cadre::data
