#pragma once
// The `data:` section of a config.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config/fields.h"

namespace cadre::data {

enum class TokenizerKind { kBytes, kSentencePiece };

struct TokenizerSettings {
  TokenizerKind kind = TokenizerKind::kBytes;
  std::optional<std::string> path;  // the tokenizer's file; bytes need none
  std::optional<bool> append_eod;   // none: bytes do not; SentencePiece does when its model has an end piece
};

struct SourceSettings {
  std::string path;   // prefix of .bin and .idx, or either file, or an llm.c .bin
  double weight = 1;  // share of samples, relative to the other sources
};

struct HeldOutSettings {
  std::string path;  // as SourceSettings::path
};

struct DataSettings {
  TokenizerSettings tokenizer;
  std::vector<SourceSettings> train;
  std::vector<HeldOutSettings> validation;  // held out; empty: no validation
  int seq_length = 256;
  bool reset_at_documents = false;  // attention and positions start anew at document boundaries
  int prefetch = 4;                 // micro-batches loaded ahead; 0 loads on demand
};

}  // namespace cadre::data

template <>
struct cadre::config::EnumNames<cadre::data::TokenizerKind> {
  using enum cadre::data::TokenizerKind;
  static constexpr EnumName<cadre::data::TokenizerKind> values[] = {{kBytes, "bytes"},
                                                                    {kSentencePiece, "sentencepiece"}};
};

template <>
struct cadre::config::Schema<cadre::data::TokenizerSettings> {
  static void fields(Fields<cadre::data::TokenizerSettings>& f);
  static void check(const cadre::data::TokenizerSettings& settings, Problems& problems);
};

template <>
struct cadre::config::Schema<cadre::data::SourceSettings> {
  static void fields(Fields<cadre::data::SourceSettings>& f);
};

template <>
struct cadre::config::Schema<cadre::data::HeldOutSettings> {
  static void fields(Fields<cadre::data::HeldOutSettings>& f);
};

template <>
struct cadre::config::Schema<cadre::data::DataSettings> {
  static void fields(Fields<cadre::data::DataSettings>& f);
};
