#include "launch/places.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

namespace cadre::launch {
namespace {

constexpr size_t kLines = 8;  // about hosts
constexpr size_t kSets = 8;   // of CPUs on a line
constexpr int kMostCpus = 1 << 16;

// The ranks of one host, ascending, by rank of the world.
struct Host {
  std::string name;
  std::vector<int> ranks;
};

std::vector<Host> hosts_of(const std::vector<Place>& places) {
  std::vector<Host> hosts;
  std::map<std::string, size_t> index;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    const auto [entry, is_new] = index.emplace(places[rank].host, hosts.size());
    if (is_new) hosts.push_back({places[rank].host, {}});
    hosts[entry->second].ranks.push_back(static_cast<int>(rank));
  }
  return hosts;
}

std::vector<int> affinity() {
  for (int size = CPU_SETSIZE; size <= kMostCpus; size *= 2) {
    std::vector<cpu_set_t> set(static_cast<size_t>(size / CPU_SETSIZE));
    const size_t bytes = set.size() * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, bytes, set.data()) != 0) continue;  // the kernel knows more CPUs than that
    std::vector<int> cpus;
    for (int cpu = 0; cpu < size; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, set.data())) cpus.push_back(cpu);
    }
    return cpus;
  }
  return {0};
}

int physical_cores(const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (!std::getline(file, siblings)) return static_cast<int>(cpus.size());
    cores.insert(siblings);
  }
  return static_cast<int>(cores.size());
}

// "QUOTA PERIOD" in microseconds, or "max PERIOD" (the kernel's cgroup-v2.rst).
int container_quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  int64_t quota = 0, period = 0;
  if (!(file >> quota >> period) || period <= 0) return 0;
  return static_cast<int>(std::max<int64_t>(1, quota / period));
}

int limited(size_t cpus, int quota) {
  const int count = static_cast<int>(cpus);
  return quota > 0 ? std::min(count, quota) : count;
}

// "0-3, 8" of ascending numbers.
std::string ranges(const std::vector<int>& numbers) {
  std::vector<std::string> parts;
  for (size_t begin = 0, end = 0; begin < numbers.size(); begin = end) {
    for (end = begin + 1; end < numbers.size() && numbers[end] == numbers[end - 1] + 1;) ++end;
    parts.push_back(end - begin == 1 ? fmt::format("{}", numbers[begin])
                                     : fmt::format("{}-{}", numbers[begin], numbers[end - 1]));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string ranks_text(const std::vector<int>& ranks) {
  return (ranks.size() == 1 ? "rank " : "ranks ") + ranges(ranks);
}

std::vector<int> united(const std::vector<Place>& places, const std::vector<int>& ranks) {
  std::set<int> all;
  for (const int rank : ranks) {
    const Place& place = places[static_cast<size_t>(rank)];
    all.insert(place.cpus.begin(), place.cpus.end());
  }
  return {all.begin(), all.end()};
}

// What a line says of a host besides its name and ranks.
std::string equipment(const std::vector<Place>& places, const std::vector<int>& ranks) {
  std::vector<std::string> sets;
  int fewest = places[static_cast<size_t>(ranks[0])].threads, most = fewest;
  for (const int rank : ranks) {
    const Place& place = places[static_cast<size_t>(rank)];
    sets.push_back(ranges(place.cpus));
    fewest = std::min(fewest, place.threads);
    most = std::max(most, place.threads);
  }
  const bool alone = ranks.size() == 1;
  std::string cpus;
  if (std::count(sets.begin(), sets.end(), sets[0]) == static_cast<std::ptrdiff_t>(sets.size())) {
    cpus = sets[0] + (alone ? "" : " together");
  } else if (sets.size() <= kSets) {
    cpus = fmt::format("{}", fmt::join(sets, " | "));
  } else {
    cpus = ranges(united(places, ranks)) + " in parts";
  }
  const std::string threads = fewest == most ? fmt::format("{}", most) : fmt::format("{}-{}", fewest, most);
  return fmt::format("on CPUs {}, {} thread{}{}, device cpu", cpus, threads, most == 1 ? "" : "s",
                     alone ? "" : " each");
}

}  // namespace

Place own_place() {
  Place place;
  char name[256] = "";
  place.host = ::gethostname(name, sizeof(name) - 1) == 0 && name[0] != 0 ? name : "localhost";
  place.cpus = affinity();
  place.quota = container_quota();
  place.cores = limited(static_cast<size_t>(physical_cores(place.cpus)), place.quota);
  return place;
}

std::string encode(const Place& place) {
  return fmt::format("{} {} {} {} {}", place.host, place.cores, place.quota, place.threads, fmt::join(place.cpus, " "));
}

Place decode_place(const std::string& text) {
  std::istringstream in(text);
  Place place;
  in >> place.host >> place.cores >> place.quota >> place.threads;
  place.cpus.assign(std::istream_iterator<int>(in), {});
  return place;
}

int fair_threads(const std::vector<Place>& places, int rank) {
  const Place& own = places[static_cast<size_t>(rank)];
  int sharers = 0;
  for (const Place& other : places) {
    if (other.host != own.host) continue;
    sharers +=
        std::find_first_of(own.cpus.begin(), own.cpus.end(), other.cpus.begin(), other.cpus.end()) != own.cpus.end();
  }
  return std::max(1, own.cores / std::max(1, sharers));
}

std::vector<std::string> describe(const std::vector<Place>& places) {
  const std::vector<Host> hosts = hosts_of(places);
  const bool merge = hosts.size() > kLines;
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end = 0; begin < hosts.size() && lines.size() < kLines; begin = end) {
    const std::string looks = equipment(places, hosts[begin].ranks);
    std::vector<int> ranks = hosts[begin].ranks;
    for (end = begin + 1; merge && end < hosts.size() && hosts[end].ranks.size() == hosts[begin].ranks.size() &&
                          equipment(places, hosts[end].ranks) == looks;
         ++end) {
      ranks.insert(ranks.end(), hosts[end].ranks.begin(), hosts[end].ranks.end());
    }
    std::sort(ranks.begin(), ranks.end());
    std::string name = hosts[begin].name;
    if (end - begin > 1) name = fmt::format("{} hosts, {} to {}", end - begin, name, hosts[end - 1].name);
    lines.push_back(fmt::format("{}: {} {}", name, ranks_text(ranks), looks));
  }
  if (begin < hosts.size()) lines.push_back(fmt::format("and {} more hosts", hosts.size() - begin));
  return lines;
}

// Threads that can run nowhere but on a set of CPUs may not be more than the set has; the sets looked at are those of
// the ranks, and that of all of them.
std::string oversubscription(const std::vector<Place>& places) {
  double worst = 1;
  std::string text;
  for (const Host& host : hosts_of(places)) {
    std::set<std::vector<int>> sets = {united(places, host.ranks)};
    for (const int rank : host.ranks) sets.insert(places[static_cast<size_t>(rank)].cpus);
    for (const std::vector<int>& set : sets) {
      int threads = 0;
      std::vector<int> ranks;
      for (const int rank : host.ranks) {
        const Place& place = places[static_cast<size_t>(rank)];
        if (!std::includes(set.begin(), set.end(), place.cpus.begin(), place.cpus.end())) continue;
        threads += place.threads;
        ranks.push_back(rank);
      }
      const int cpus = limited(set.size(), places[static_cast<size_t>(host.ranks[0])].quota);
      if (threads <= worst * cpus) continue;
      worst = static_cast<double>(threads) / cpus;
      text = fmt::format("{}: {} threads of {} take turns on {} CPU{}; {}", host.name, threads, ranks_text(ranks), cpus,
                         cpus == 1 ? "" : "s",
                         threads > static_cast<int>(ranks.size()) ? "lower CADRE_THREADS or device.threads"
                                                                  : "start fewer ranks there");
    }
  }
  return text;
}

}  // namespace cadre::launch
