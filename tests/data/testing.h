#pragma once
// What the data room's tests share: a directory of their own, text to learn from, and errors to look into.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/rng.h"
#include "data/tokenizer.h"

namespace cadre::data::testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "cadre-data-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::filesystem::path write(std::string_view name, std::string_view content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }
  size_t files() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The message of the E that `action` throws; a test failure when it throws none.
template <class E, class F>
std::string message_of(F&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no error";
  return {};
}

inline void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

// Prose of made-up words in sentences and indented lines, Zipf-like, pure ASCII.
inline std::string synthetic_prose(size_t bytes, uint64_t seed) {
  Rng words(7, RngPurpose::kTest), draw(seed, RngPurpose::kTest, 1);
  constexpr std::string_view kOnsets[] = {"b", "str", "m", "th", "l", "qu", "n", "s", "r", "pl", "", "ch"};
  constexpr std::string_view kRimes[] = {"a", "ing", "or", "e", "ist", "um", "ate", "o", "ell", "y", "ion", "ar"};
  std::string lexicon[400];
  for (std::string& word : lexicon) {
    for (uint64_t i = 1 + words.below(3); i > 0; --i)
      word.append(kOnsets[words.below(12)]).append(kRimes[words.below(12)]);
  }
  std::string text;
  while (text.size() < bytes) {
    const double u = draw.uniform();
    text += lexicon[static_cast<size_t>(400 * u * u * u)];
    const uint64_t what = draw.below(24);
    text += what == 0 ? ".\n\n" : what == 1 ? ",\n   " : what == 2 ? ";\n      [" : what == 3 ? " 1913 " : " ";
  }
  text.resize(bytes);
  return text;
}

// Valid UTF-8 full of what tokenizers trip over.
inline std::string nasty_text(size_t parts, Rng& draw) {
  using namespace std::string_view_literals;
  constexpr std::string_view kParts[] = {" "sv,
                                         "  "sv,
                                         "\n"sv,
                                         "\r\n"sv,
                                         "\t"sv,
                                         "\0"sv,
                                         "\xE2\x96\x81"sv,
                                         "\xE2\x96\x81\xE2\x96\x81 "sv,
                                         "<unk>"sv,
                                         "<0x41>"sv,
                                         "</s>"sv,
                                         "<s>"sv,
                                         "<|endoftext|>"sv,
                                         "\xE2\x81\x87"sv,
                                         "\xE2\x96\x85"sv,
                                         "\xEF\xBB\xBF"sv,
                                         "\xC3\xA9"sv,
                                         "e\xCC\x81"sv,
                                         "\xEF\xBC\xA1"sv,
                                         "\xF0\x9F\x98\x80"sv,
                                         "\xE4\xB8\xAD\xE6\x96\x87"sv,
                                         "\xEF\xBF\xBD"sv,
                                         "\xE2\x96\x80"sv,
                                         "\x7F"sv,
                                         "\xC2\x81"sv,
                                         "the "sv,
                                         " string."sv,
                                         "1913"sv,
                                         "    \n   "sv,
                                         "\xF4\x8F\xBF\xBF"sv,
                                         "\xC2\xA0"sv,
                                         "\xE3\x80\x80"sv};
  std::string text;
  for (size_t i = 0; i < parts; ++i) text += kParts[draw.below(std::size(kParts))];
  return text;
}

}  // namespace cadre::data::testing
