#include "launch/report/png.h"

#include <algorithm>
#include <string_view>

namespace cadre::launch {
namespace {

// CRC-32, reflected, of IEEE 802.3, as the standard's annex D computes it.
uint32_t crc32(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

uint32_t adler32(std::string_view bytes) {
  uint32_t a = 1, b = 0;
  for (const char byte : bytes) {
    a = (a + static_cast<unsigned char>(byte)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

std::string big_endian(uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 255);
  return text;
}

std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<uint32_t>(data.size())) + type + data + big_endian(crc32(type + data));
}

// zlib's format (RFC 1950) around blocks that are stored as they are (RFC 1951, 3.2.4).
std::string stored(std::string_view bytes) {
  constexpr size_t kMost = 65535;
  std::string text = "\x78\x01";
  std::string_view rest = bytes;
  do {
    const std::string_view part = rest.substr(0, kMost);
    rest.remove_prefix(part.size());
    text += static_cast<char>(rest.empty() ? 1 : 0);
    for (const size_t length : {part.size(), ~part.size()}) {
      text += static_cast<char>(length & 255);
      text += static_cast<char>(length >> 8 & 255);
    }
    text += part;
  } while (!rest.empty());
  return text + big_endian(adler32(bytes));
}

}  // namespace

std::string png(const std::vector<uint8_t>& pixels, size_t width, const std::vector<Colour>& palette) {
  const size_t height = pixels.size() / width;
  std::string colours, opacities, rows;
  for (const Colour& colour : palette) {
    for (const uint8_t part : {colour.red, colour.green, colour.blue}) colours += static_cast<char>(part);
    opacities += static_cast<char>(colour.opacity);
  }
  for (size_t y = 0; y < height; ++y) {
    rows += '\0';  // no filter
    for (size_t x = 0; x < width; x += 2) {
      const int left = pixels[y * width + x], right = x + 1 < width ? pixels[y * width + x + 1] : 0;
      rows += static_cast<char>(left << 4 | right);
    }
  }
  const std::string header = big_endian(static_cast<uint32_t>(width)) + big_endian(static_cast<uint32_t>(height)) +
                             std::string("\x04\x03\0\0\0", 5);  // 4 bits, by palette
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("PLTE", colours) + chunk("tRNS", opacities) +
         chunk("IDAT", stored(rows)) + chunk("IEND", "");
}

}  // namespace cadre::launch
