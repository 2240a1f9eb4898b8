#pragma once
// Text and numbers in a page.

#include <string>
#include <string_view>
#include <vector>

namespace cadre::launch {

// For element content and quoted attributes. Control characters but newline and tab become U+FFFD, and so do bytes that
// are not UTF-8.
std::string escaped(std::string_view text);

// About four digits, for people: "1.234", "0.00123", "3.2e-06", "12.3k"; a dash for what is not finite.
std::string figure(double value);
// 1234567 -> "1,234,567"
std::string whole(int64_t value);

std::string base64(std::string_view bytes);

}  // namespace cadre::launch
