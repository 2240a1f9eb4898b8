#pragma once
// Small pictures of at most 16 colours, as PNG (ISO/IEC 15948): indexed, 4 bits a pixel.

#include <cstdint>
#include <string>
#include <vector>

namespace cadre::launch {

struct Colour {
  uint8_t red = 0, green = 0, blue = 0, opacity = 255;
};

// pixels [height * width]: places in the palette, row by row.
std::string png(const std::vector<uint8_t>& pixels, size_t width, const std::vector<Colour>& palette);

}  // namespace cadre::launch
