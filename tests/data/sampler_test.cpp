#include "data/sampler.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <set>

#include "data/eval_windows.h"
#include "data/loader.h"
#include "data/permutation.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

using testing::expect_contains;
using testing::message_of;

// Token t of the stream is t; documents begin where told.
class Counting final : public TokenDataset {
 public:
  Counting(int64_t tokens, std::vector<int64_t> starts) : tokens_(tokens), starts_(std::move(starts)) {
    starts_.push_back(tokens);
  }
  const std::string& name() const override { return name_; }
  int64_t tokens() const override { return tokens_; }
  int64_t documents() const override { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t document_start(int64_t document) const override { return starts_[static_cast<size_t>(document)]; }
  void read(int64_t begin, std::span<int32_t> out) const override {
    ASSERT_GE(begin, 0);
    ASSERT_LE(begin + static_cast<int64_t>(out.size()), tokens_);
    std::iota(out.begin(), out.end(), static_cast<int32_t>(begin));
  }
  std::string fingerprint() const override { return std::to_string(tokens_); }

 private:
  std::string name_ = "counting";
  int64_t tokens_;
  std::vector<int64_t> starts_;
};

std::shared_ptr<Counting> counting(int64_t tokens, std::vector<int64_t> starts = {0}) {
  return std::make_shared<Counting>(tokens, std::move(starts));
}

Sampler::Options options(int seq_length, bool reset = false, uint64_t seed = 1) {
  return {seed, seq_length, 1'000'000, reset};
}

TEST(Permutation, IsABijectionOfAnySize) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 16, 17, 257, 1000, 4097}) {
    const Permutation permutation(size, 5, 6);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < size; ++i) {
      ASSERT_LT(permutation(i), size);
      seen.insert(permutation(i));
    }
    EXPECT_EQ(seen.size(), size);
  }
}

TEST(Permutation, DependsOnSeedAndStreamAndLooksShuffled) {
  const uint64_t size = 10'000;
  const Permutation a(size, 1, 0), b(size, 2, 0), c(size, 1, 1);
  int fixed = 0, same_b = 0, same_c = 0, ascents = 0;
  for (uint64_t i = 0; i + 1 < size; ++i) {
    fixed += a(i) == i;
    same_b += a(i) == b(i);
    same_c += a(i) == c(i);
    ascents += a(i) < a(i + 1);
  }
  EXPECT_LT(fixed, 10);
  EXPECT_LT(same_b, 10);
  EXPECT_LT(same_c, 10);
  EXPECT_NEAR(ascents, 5000, 300);
}

TEST(Sampler, VisitsEveryWindowOfAnEpochExactlyOnce) {
  const Sampler sampler({{counting(1001), 1}}, options(10));
  ASSERT_EQ(sampler.windows(0), 100);
  std::vector<int64_t> order[3];
  for (int64_t i = 0; i < 300; ++i) {
    const auto place = sampler.place(i);
    ASSERT_EQ(place.epoch, i / 100);
    order[place.epoch].push_back(place.window);
  }
  for (const auto& epoch : order) EXPECT_EQ(std::set(epoch.begin(), epoch.end()).size(), 100u);
  EXPECT_NE(order[0], order[1]);
  EXPECT_NE(order[1], order[2]);
  EXPECT_EQ(sampler.windows(0), (1001 - 1) / 10);
}

TEST(Sampler, TargetsFollowTokens) {
  const Sampler sampler({{counting(51), 1}}, options(10));
  const Batch batch = sampler.load(3, 4);
  ASSERT_EQ(batch.tokens.size(), 40u);
  EXPECT_EQ(batch.samples, 4);
  EXPECT_EQ(batch.target_tokens, 40);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(batch.targets[i], batch.tokens[i] + 1);
    EXPECT_EQ(batch.tokens[i] % 10, static_cast<int32_t>(i % 10));
    EXPECT_EQ(batch.segment_start[i], 0);
  }
}

TEST(Sampler, TheOrderDependsOnTheSeedAlone) {
  const Sampler a({{counting(5001), 1}, {counting(301), 2}}, options(10)),
      again({{counting(5001), 1}, {counting(301), 2}}, options(10)),
      other({{counting(5001), 1}, {counting(301), 2}}, options(10, false, 2));
  const Batch whole = a.load(0, 24);
  for (int64_t i = 23; i >= 0; --i) {  // any split, any order: what ranks and resumes do
    const Batch one = again.load(i, 1);
    EXPECT_TRUE(std::equal(one.tokens.begin(), one.tokens.end(), whole.tokens.begin() + i * 10));
  }
  EXPECT_NE(other.load(0, 24).tokens, whole.tokens);
  EXPECT_EQ(a.fingerprint(), again.fingerprint());
  EXPECT_NE(a.fingerprint(), other.fingerprint());
}

TEST(Sampler, SegmentsStartAtDocuments) {
  const Sampler sampler({{counting(31, {0, 4, 4, 12, 20, 29}), 1}}, options(10, true));
  std::vector<std::vector<int32_t>> by_window(3);
  for (int64_t i = 0; i < 3; ++i)
    by_window[static_cast<size_t>(sampler.place(i).window)] = sampler.load(i, 1).segment_start;
  EXPECT_EQ(by_window[0], (std::vector<int32_t>{0, 0, 0, 0, 4, 4, 4, 4, 4, 4}));
  EXPECT_EQ(by_window[1], (std::vector<int32_t>{0, 0, 2, 2, 2, 2, 2, 2, 2, 2}));
  EXPECT_EQ(by_window[2], (std::vector<int32_t>{0, 0, 0, 0, 0, 0, 0, 0, 0, 9}));
}

TEST(Sampler, RefusesTooShortASourceAndBadTokens) {
  expect_contains(message_of<DataError>([] {
                    Sampler({{counting(10), 1}}, options(10));
                  }),
                  "counting: got 10 tokens; wanted at least 11");
  Sampler::Options narrow = options(10);
  narrow.vocab_size = 15;
  const Sampler sampler({{counting(21), 1}}, narrow);
  expect_contains(message_of<DataError>([&] { sampler.load(0, 2); }), "counting: token 15: got id 15; wanted 0 to 14");
}

TEST(Mixture, HonoursWeightsOverAnyStretch) {
  const std::vector<double> weights = {0.7, 0.2, 0.1};
  const Mixture mixture(weights);
  for (const int64_t first : {int64_t{0}, int64_t{999}, Mixture::kBlock - 500, 7 * Mixture::kBlock + 12'345}) {
    std::vector<int> counts(3);
    for (int64_t i = first; i < first + 1000; ++i) ++counts[static_cast<size_t>(mixture.place(i).source)];
    for (size_t s = 0; s < 3; ++s) EXPECT_NEAR(counts[s], 1000 * weights[s], 3) << first;
  }
}

TEST(Mixture, CountsEachSourceWithoutGaps) {
  const std::vector<double> weights = {3, 5, 0.01, 1};
  const Mixture mixture(weights);
  std::vector<int64_t> next(4);
  for (int64_t i = 0; i < 2 * Mixture::kBlock + 1000; ++i) {
    const auto place = mixture.place(i);
    ASSERT_EQ(place.index, next[static_cast<size_t>(place.source)]++) << i;
  }
  EXPECT_EQ(mixture.share(0) + mixture.share(1) + mixture.share(2) + mixture.share(3), Mixture::kBlock);
}

TEST(Mixture, RefusesUselessWeights) {
  for (const auto& weights :
       std::vector<std::vector<double>>{{}, {0}, {1, -1}, {1, std::numeric_limits<double>::quiet_NaN()}, {1, 1e-7}}) {
    EXPECT_THROW(Mixture{weights}, ConfigError);
  }
}

TEST(BatchPlan, RanksShareOutTheGlobalBatch) {
  std::multiset<int64_t> samples;
  for (int rank = 0; rank < 3; ++rank) {
    const BatchPlan plan{24, 4, rank, 3};
    plan.check();
    ASSERT_EQ(plan.micro_batches(), 2);
    for (int64_t step = 0; step < 2; ++step) {
      for (int64_t m = 0; m < 2; ++m) {
        const SampleRange range = plan.range(step, m);
        for (int64_t i = 0; i < range.count; ++i) samples.insert(range.first + i);
      }
    }
  }
  EXPECT_EQ(samples.size(), 48u);
  EXPECT_EQ(std::set(samples.begin(), samples.end()).size(), 48u);
  EXPECT_EQ(*samples.rbegin(), 47);
  expect_contains(message_of<ConfigError>([] { BatchPlan{20, 4, 0, 3}.check(); }), "got 20; wanted a multiple of");
}

TEST(Loader, GivesTheSameBatchesWithAndWithoutPrefetch) {
  const auto sampler = std::make_shared<const Sampler>(std::vector<Sampler::Source>{{counting(5001), 1}}, options(10));
  const BatchPlan plan{8, 2, 1, 2};
  Loader ahead(sampler, plan, 3, 4), direct(sampler, plan, 3, 0);
  for (int64_t k = 0; k < 20; ++k) {
    const SampleRange range = plan.range(3 + k / 2, k % 2);
    const auto wanted = sampler->load(range.first, range.count).tokens;
    EXPECT_EQ(ahead.next().tokens, wanted);
    EXPECT_EQ(direct.next().tokens, wanted);
  }
}

TEST(Prefetcher, ErrorsComeInTheirPlaceAndStay) {
  for (const int depth : {0, 1, 3}) {
    Prefetcher prefetcher(
        [](int64_t k) {
          if (k >= 7) throw DataError("broken at 7");
          Batch batch;
          batch.samples = k;
          return batch;
        },
        5, depth);
    EXPECT_EQ(prefetcher.next().samples, 5);
    EXPECT_EQ(prefetcher.next().samples, 6);
    EXPECT_THROW(prefetcher.next(), DataError);
    EXPECT_THROW(prefetcher.next(), DataError);
  }
}

TEST(Prefetcher, MayBeDroppedAnyTime) {
  for (int taken = 0; taken < 4; ++taken) {
    Prefetcher prefetcher([](int64_t) { return Batch(); }, 0, 2);
    for (int i = 0; i < taken; ++i) prefetcher.next();
  }
}

TEST(EvalWindows, ScoreEveryTokenExactlyOnce) {
  for (const int64_t tokens : {1, 7, 8, 9, 16, 50}) {
    for (const int stride : {0, 8, 5, 1}) {
      const EvalWindows windows(counting(tokens), {8, stride, 1000, 777, false});
      std::vector<int> scored(static_cast<size_t>(tokens));
      int64_t target_tokens = 0;
      for (int64_t w = 0; w < windows.count(); ++w) {
        const Batch batch = windows.load(w, 1);
        ASSERT_EQ(batch.tokens.size(), 8u);
        target_tokens += batch.target_tokens;
        for (size_t p = 0; p < 8; ++p) {
          if (batch.targets[p] == kIgnoredTarget) continue;
          ++scored[static_cast<size_t>(batch.targets[p])];
          EXPECT_EQ(batch.tokens[p], batch.targets[p] == 0 ? 777 : batch.targets[p] - 1);
          if (stride > 0 && w > 0) {
            EXPECT_GE(p + static_cast<size_t>(stride), 8u);
          }
        }
      }
      EXPECT_EQ(scored, std::vector<int>(static_cast<size_t>(tokens), 1)) << tokens << " " << stride;
      EXPECT_EQ(target_tokens, tokens);
      EXPECT_EQ(windows.load(0, 1000).samples, windows.count());
    }
  }
}

TEST(EvalWindows, SegmentsFollowTheContextToken) {
  const EvalWindows windows(counting(12, {0, 3, 9}), {8, 0, 1000, 777, true});
  EXPECT_EQ(windows.load(0, 1).segment_start, (std::vector<int32_t>{0, 0, 0, 0, 4, 4, 4, 4}));
  EXPECT_EQ(windows.load(1, 1).segment_start, (std::vector<int32_t>{0, 0, 2, 2, 0, 0, 0, 0}));
}

}  // namespace
}  // namespace cadre::data
