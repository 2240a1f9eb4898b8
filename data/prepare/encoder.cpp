#include "data/prepare/encoder.h"

#include <fmt/core.h>
#include <simdjson.h>

#include "core/error.h"

namespace cadre::data {
namespace {

[[noreturn]] void fail_utf8(const Piece& piece, uint64_t offset, char byte) {
  throw DataError(fmt::format("{}: byte {}: got 0x{:02X}, not valid UTF-8; wanted UTF-8, or invalid_utf8: replace",
                              piece.input->name(), offset, static_cast<unsigned char>(byte)));
}

}  // namespace

struct PieceEncoder::JsonParser {
  simdjson::dom::parser parser;

  std::string_view text_of(std::string_view line, const std::string& key, const Piece& piece, uint64_t offset) {
    const auto fail = [&](std::string_view what) {
      throw DataError(fmt::format("{}: line at byte {}: {}; wanted a JSON object with a string \"{}\"",
                                  piece.input->name(), offset, what, key));
    };
    simdjson::dom::object object;
    simdjson::dom::element document, value;
    const auto error = parser.parse(line.data(), line.size(), true).get(document);
    if (error) fail(fmt::format("not JSON ({})", simdjson::error_message(error)));
    if (document.get_object().get(object)) fail("not an object");
    if (object.at_key(key).get(value)) fail(fmt::format("no key \"{}\"", key));
    std::string_view text;
    if (value.get_string().get(text)) fail(fmt::format("\"{}\" is no string", key));
    return text;
  }
};

PieceEncoder::PieceEncoder(std::unique_ptr<Tokenizer> tokenizer, Options options)
    : tokenizer_(std::move(tokenizer)), options_(std::move(options)), json_(std::make_unique<JsonParser>()) {}

PieceEncoder::~PieceEncoder() = default;

EncodedPiece PieceEncoder::encode(const Piece& piece) {
  EncodedPiece result;
  if (piece.input->format == TextFormat::kJsonl) {
    encode_lines(piece, result);
  } else {
    encode_text(piece, result);
  }
  return result;
}

void PieceEncoder::end_document(EncodedPiece& result) {
  if (const auto eod = tokenizer_->end_of_document()) result.tokens.push_back(*eod);
  result.document_ends.push_back(result.tokens.size());
}

void PieceEncoder::add_text(std::string_view text, const Piece& piece, uint64_t offset, EncodedPiece& result) {
  result.text_bytes += text.size();
  const size_t bad = find_invalid_utf8(text);
  if (bad == kNoInvalidUtf8) return tokenizer_->encode(text, result.tokens);
  if (options_.invalid_utf8 == InvalidUtf8::kError) fail_utf8(piece, offset + bad, text[bad]);
  tokenizer_->encode(replace_invalid_utf8(text, result.replaced), result.tokens);
}

void PieceEncoder::encode_text(const Piece& piece, EncodedPiece& result) {
  const std::string& separator = options_.document_separator;
  std::string_view text = piece.bytes;
  uint64_t offset = piece.offset;
  bool in_document = piece.in_document;
  while (!text.empty()) {
    const size_t found = separator.empty() ? std::string_view::npos : text.find(separator);
    const size_t length = found == std::string_view::npos ? text.size() : found + separator.size();
    add_text(text.substr(0, length), piece, offset, result);
    in_document = found == std::string_view::npos;
    if (!in_document) end_document(result);
    text.remove_prefix(length);
    offset += length;
  }
  if (piece.ends_input && in_document) end_document(result);
}

void PieceEncoder::encode_lines(const Piece& piece, EncodedPiece& result) {
  std::string_view rest = piece.bytes;
  uint64_t offset = piece.offset;
  while (!rest.empty()) {
    const size_t newline = rest.find('\n');
    const std::string_view line = rest.substr(0, newline);
    const uint64_t line_offset = offset;
    const size_t consumed = newline == std::string_view::npos ? rest.size() : newline + 1;
    rest.remove_prefix(consumed);
    offset += consumed;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const size_t bad = find_invalid_utf8(line);
    std::string repaired;
    if (bad != kNoInvalidUtf8) {
      if (options_.invalid_utf8 == InvalidUtf8::kError) fail_utf8(piece, line_offset + bad, line[bad]);
      repaired = replace_invalid_utf8(line, result.replaced);
    }
    const std::string_view text =
        json_->text_of(bad == kNoInvalidUtf8 ? line : repaired, options_.json_key, piece, line_offset);
    if (text.empty()) {
      ++result.empty_documents;
      continue;
    }
    result.text_bytes += text.size();
    tokenizer_->encode(text, result.tokens);
    end_document(result);
  }
}

}  // namespace cadre::data
