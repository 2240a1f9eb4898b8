#include "launch/places.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <numeric>

namespace cadre::launch {
namespace {

using Lines = std::vector<std::string>;

std::vector<int> cpus(int first, int count) {
  std::vector<int> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

Place place(const std::string& host, std::vector<int> numbers, int threads) {
  const int cores = static_cast<int>(numbers.size());
  return {host, std::move(numbers), cores, 0, threads};
}

TEST(Places, OwnPlaceIsPlausibleAndSurvivesEncoding) {
  const Place own = own_place();
  EXPECT_FALSE(own.host.empty());
  EXPECT_FALSE(own.cpus.empty());
  EXPECT_GE(own.cores, 1);
  EXPECT_LE(own.cores, static_cast<int>(own.cpus.size()));
  Place sent = {"node-7", {0, 1, 2, 3, 8, 64}, 3, 2, 5};
  const Place got = decode_place(encode(sent));
  EXPECT_EQ(got.host, sent.host);
  EXPECT_EQ(got.cpus, sent.cpus);
  EXPECT_EQ(got.cores, sent.cores);
  EXPECT_EQ(got.quota, sent.quota);
  EXPECT_EQ(got.threads, sent.threads);
}

TEST(Places, ThreadsAreSharedWithTheRanksOfTheSameCpus) {
  // a: two ranks that may use all of 6 CPUs; b: two with 4 of their own each, and one alone on c.
  const std::vector<Place> places = {place("a", cpus(0, 6), 1), place("b", cpus(0, 4), 1), place("a", cpus(0, 6), 1),
                                     place("b", cpus(4, 4), 1), place("c", cpus(0, 12), 1)};
  EXPECT_EQ(fair_threads(places, 0), 3);
  EXPECT_EQ(fair_threads(places, 1), 4);
  EXPECT_EQ(fair_threads(places, 3), 4);
  EXPECT_EQ(fair_threads(places, 4), 12);
  const std::vector<Place> crowd(5, place("a", cpus(0, 2), 1));
  EXPECT_EQ(fair_threads(crowd, 4), 1);
  // Two hardware threads a core: the cores count.
  Place twins = place("a", cpus(0, 8), 1);
  twins.cores = 4;
  EXPECT_EQ(fair_threads({twins, twins}, 0), 2);
}

TEST(Places, EveryHostIsALine) {
  EXPECT_EQ(describe({place("laptop", cpus(0, 2), 2)}), (Lines{"laptop: rank 0 on CPUs 0-1, 2 threads, device cpu"}));
  EXPECT_EQ(describe({place("a", cpus(0, 2), 1), place("b", cpus(0, 4), 4), place("a", cpus(0, 2), 1),
                      place("b", {4, 6, 7}, 3), place("a", cpus(0, 2), 1)}),
            (Lines{"a: ranks 0, 2, 4 on CPUs 0-1 together, 1 thread each, device cpu",
                   "b: ranks 1, 3 on CPUs 0-3 | 4, 6-7, 3-4 threads each, device cpu"}));
  std::vector<Place> many;
  for (int rank = 0; rank < 16; ++rank) many.push_back(place("a", cpus(rank * 4, 4), 4));
  EXPECT_EQ(describe(many), (Lines{"a: ranks 0-15 on CPUs 0-63 in parts, 4 threads each, device cpu"}));
}

TEST(Places, ManyHostsThatLookAlikeAreALine) {
  std::vector<Place> places;
  for (int host = 0; host < 100; ++host) {
    const int threads = host == 60 ? 1 : 8;
    for (int rank = 0; rank < 2; ++rank)
      places.push_back(place(fmt::format("n{:03}", host), cpus(8 * rank, 8), threads));
  }
  EXPECT_EQ(describe(places),
            (Lines{"60 hosts, n000 to n059: ranks 0-119 on CPUs 0-7 | 8-15, 8 threads each, device cpu",
                   "n060: ranks 120-121 on CPUs 0-7 | 8-15, 1 thread each, device cpu",
                   "39 hosts, n061 to n099: ranks 122-199 on CPUs 0-7 | 8-15, 8 threads each, device cpu"}));
  std::vector<Place> all_different;
  for (int host = 0; host < 20; ++host) all_different.push_back(place(fmt::format("n{}", host), cpus(0, host + 1), 1));
  const Lines lines = describe(all_different);
  ASSERT_EQ(lines.size(), 9u);
  EXPECT_EQ(lines.back(), "and 12 more hosts");
}

TEST(Places, ThreadsThatWantTheSameCpuAreToldOf) {
  EXPECT_EQ(oversubscription({place("a", cpus(0, 4), 2), place("a", cpus(0, 4), 2), place("b", cpus(0, 4), 4)}), "");
  EXPECT_EQ(oversubscription({place("a", cpus(0, 4), 2), place("a", cpus(0, 4), 3)}),
            "a: 5 threads of ranks 0-1 take turns on 4 CPUs; lower CADRE_THREADS or device.threads");
  EXPECT_EQ(oversubscription({place("a", cpus(0, 2), 1), place("a", cpus(0, 2), 1), place("a", cpus(0, 2), 1)}),
            "a: 3 threads of ranks 0-2 take turns on 2 CPUs; start fewer ranks there");
  // Enough CPUs on the host, but two ranks are bound to the same one; and the worst host is named.
  const std::vector<Place> bound = {place("a", cpus(0, 2), 3), place("b", {0}, 1), place("b", {0}, 1),
                                    place("b", cpus(1, 7), 7)};
  EXPECT_TRUE(oversubscription(bound).starts_with("b: 2 threads of ranks 1-2 take turns on 1 CPU;"));
  Place limited = place("c", cpus(0, 64), 3);
  limited.quota = 2;
  EXPECT_TRUE(oversubscription({limited}).starts_with("c: 3 threads of rank 0 take turns on 2 CPUs;"));
}

}  // namespace
}  // namespace cadre::launch
