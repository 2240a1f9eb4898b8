#pragma once
// Collects everything that is wrong with a config, so that one run reports it all. Each problem is one line:
// `file.yaml:12: optimizer.lr_: unknown key; did you mean "lr"?`

#include <string>
#include <string_view>
#include <vector>

#include "core/config/document.h"

namespace cadre::config {

class Problems {
 public:
  static constexpr int kMaxLines = 20;

  // With `unknown_keys`, unknown keys are no problems: their full names are appended there.
  explicit Problems(std::vector<std::string>* unknown_keys = nullptr) : unknown_keys_(unknown_keys) {}

  // `key` is relative to the struct being checked ("lr", "schedule.warmup_steps", "train[0].weight", or "" for itself);
  // the line is that of the nearest part of the key that the config wrote. `text` says what was got and what is wanted.
  void add(std::string_view key, std::string_view text);
  // The same with a place of its own, for a node that is not where its key says (an unknown key).
  void add_at(const Location& where, std::string_view key, std::string_view text);

  // True when unknown keys are listed; then `key` now is.
  bool list_unknown(std::string_view key);

  bool empty() const { return count_ == 0; }
  int count() const { return count_; }
  bool full() const { return count_ >= kMaxLines; }  // further problems are only counted
  // The first kMaxLines lines, and how many more there were.
  std::string text() const;
  // Throws ConfigError with text() unless empty.
  void raise() const;

  // The key and the node (null when unwritten) that is being read; used by codecs, restored when it goes.
  class Scope {
   public:
    Scope(Problems& problems, std::string_view key, const Node* node);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Problems& problems_;
  };

 private:
  struct Frame {
    std::string key;
    const Node* node;
    Location location;
  };

  std::string full_name(std::string_view key) const;

  std::vector<std::string>* unknown_keys_;
  std::vector<Frame> frames_;
  std::vector<std::string> lines_;
  int count_ = 0;
};

// "a" + "b" = "a.b", "a" + "[0]" = "a[0]", "" + "b" = "b".
std::string join_key(std::string_view prefix, std::string_view key);

// `; did you mean "lr"?` for the candidate nearest to `got` in edit distance, or the list of all when few and none is
// near, or "".
std::string suggestion(std::string_view got, const std::vector<std::string>& candidates);

}  // namespace cadre::config
