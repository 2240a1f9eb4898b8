#pragma once
// Where the ranks of a job run: hosts, CPUs, threads.

#include <string>
#include <vector>

namespace cadre::launch {

// One rank's. "CPU" is the kernel's word: a hardware thread.
struct Place {
  std::string host;
  std::vector<int> cpus = {0};  // that the rank may run on, ascending
  int cores = 1;                // physical ones among them
  int quota = 0;                // how many CPUs' time the container gets; 0: no limit
  int threads = 1;              // of the rank's thread pool
};

// This process's, with one thread.
Place own_place();

std::string encode(const Place& place);
Place decode_place(const std::string& text);

// The threads of a rank for which nobody chose them: its cores, shared evenly with the ranks that may use some of them.
int fair_threads(const std::vector<Place>& places, int rank);

// One line for each host, in the order of their ranks; with more than 8 hosts one for neighbours that look alike, and 8
// at most.
std::vector<std::string> describe(const std::vector<Place>& places);

// One line about the host where most threads want the same CPU; empty when no CPU is wanted twice.
std::string oversubscription(const std::vector<Place>& places);

}  // namespace cadre::launch
