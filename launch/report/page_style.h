#pragma once
// How a report looks.

#include <string>

namespace cadre::launch {

std::string page_style();

}  // namespace cadre::launch
