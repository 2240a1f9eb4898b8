#pragma once
// Timing of things that are compared with each other.

#include <functional>
#include <vector>

namespace cadre::launch {

// Wall seconds of one call.
double seconds_of(const std::function<void()>& call);

double median(std::vector<double> values);

// Runs the calls in turn for about `seconds` in all, at least five rounds after one to warm up, repeating short calls
// within their turn to fill about 5 ms. Gives the median seconds of one run of each call.
std::vector<double> alternate(double seconds, const std::vector<std::function<void()>>& calls);

}  // namespace cadre::launch
