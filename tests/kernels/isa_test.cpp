#include "kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/vector_table.h"

namespace cadre::kernels {
namespace {

TEST(IsaTest, TheBestIsAvailableAndPortableAlwaysIs) {
  EXPECT_TRUE(isa_available(Isa::kPortable));
  EXPECT_TRUE(isa_available(best_isa()));
  EXPECT_EQ(name_of(Isa::kAvx2), "avx2");
}

class VectorTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_available(GetParam())) GTEST_SKIP() << "no " << name_of(GetParam()) << " on this machine";
  }
  const cpu::VectorTable& table() const { return CADRE_SIMD_SELECT(GetParam(), kVectorTable); }

  using Map = void (*)(const float*, int64_t, float*);
  // Largest error over a fine sweep, in units in the last place of the true value.
  static double worst_ulp(Map map, double (*truth)(double), float low, float high) {
    std::vector<float> x;
    for (int i = 0; i <= 200003; ++i) x.push_back(low + (high - low) * static_cast<float>(i) / 200003.0f);
    std::vector<float> y(x.size());
    map(x.data(), static_cast<int64_t>(x.size()), y.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double wanted = truth(x[i]);
      const double ulp = std::ldexp(1.0, std::max(-149, std::ilogb(wanted == 0 ? 1e-45 : wanted) - 23));
      worst = std::max(worst, std::abs(y[i] - wanted) / ulp);
    }
    return worst;
  }
  float at(Map map, float x) const {
    float y = 0;
    map(&x, 1, &y);
    return y;
  }
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

double true_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST_P(VectorTest, FunctionsAreAccurate) {
  EXPECT_LE(worst_ulp(
                table().exp, [](double x) { return std::exp(x); }, -87.0f, 88.7f),
            2.0);
  EXPECT_LE(worst_ulp(
                table().exp, [](double x) { return std::exp(x); }, -103.0f, -87.0f),
            2.0);
  EXPECT_LE(worst_ulp(
                table().exp, [](double x) { return std::exp(x); }, -1e-3f, 1e-3f),
            2.0);
  EXPECT_LE(worst_ulp(
                table().log, [](double x) { return std::log(x); }, 1e-3f, 4.0f),
            2.0);
  EXPECT_LE(worst_ulp(
                table().log, [](double x) { return std::log(x); }, 1.0f, 1e30f),
            2.0);
  EXPECT_LE(worst_ulp(
                table().log, [](double x) { return std::log(x); }, 1e-42f, 1e-37f),
            2.0);
  EXPECT_LE(worst_ulp(
                table().tanh, [](double x) { return std::tanh(x); }, -10.0f, 10.0f),
            3.0);
  EXPECT_LE(worst_ulp(
                table().tanh, [](double x) { return std::tanh(x); }, -0.01f, 0.01f),
            3.0);
  EXPECT_LE(worst_ulp(table().sigmoid, true_sigmoid, -80.0f, 30.0f), 3.0);
  EXPECT_LE(worst_ulp(
                table().sqrt, [](double x) { return std::sqrt(x); }, 0.0f, 100.0f),
            0.5);
}

TEST_P(VectorTest, EndsOfTheRangeAndNan) {
  EXPECT_EQ(at(table().exp, -kInfinity), 0.0f);
  EXPECT_EQ(at(table().exp, kInfinity), kInfinity);
  EXPECT_EQ(at(table().exp, 89.0f), kInfinity);
  EXPECT_EQ(at(table().exp, 0.0f), 1.0f);
  EXPECT_TRUE(std::isnan(at(table().exp, kNan)));
  EXPECT_EQ(at(table().log, 0.0f), -kInfinity);
  EXPECT_EQ(at(table().log, kInfinity), kInfinity);
  EXPECT_EQ(at(table().log, 1.0f), 0.0f);
  EXPECT_TRUE(std::isnan(at(table().log, -1.0f)));
  EXPECT_TRUE(std::isnan(at(table().log, kNan)));
  EXPECT_EQ(at(table().tanh, kInfinity), 1.0f);
  EXPECT_EQ(at(table().tanh, -kInfinity), -1.0f);
  EXPECT_TRUE(std::isnan(at(table().tanh, kNan)));
  EXPECT_EQ(at(table().sigmoid, -kInfinity), 0.0f);
  EXPECT_EQ(at(table().sigmoid, kInfinity), 1.0f);
  EXPECT_TRUE(std::isnan(at(table().sigmoid, kNan)));
}

// Partial loads and stores touch nothing outside and give an element the bits it has in a full vector.
TEST_P(VectorTest, TailsHaveTheBitsOfTheBody) {
  const int64_t width = table().width;
  std::vector<float> x(static_cast<size_t>(width));
  for (int64_t i = 0; i < width; ++i) x[static_cast<size_t>(i)] = 0.37f * static_cast<float>(i) - 1.0f;
  std::vector<float> whole(x.size());
  table().exp(x.data(), width, whole.data());
  for (int64_t count = 0; count < width; ++count) {
    const std::vector<float> exact(x.begin(), x.begin() + count);  // the sanitizer sees a read past its end
    std::vector<float> y(x.size(), -7.0f);
    table().exp(exact.data(), count, y.data());
    EXPECT_EQ(0, std::memcmp(y.data(), whole.data(), static_cast<size_t>(count) * sizeof(float)));
    for (int64_t i = count; i < width; ++i) EXPECT_EQ(y[static_cast<size_t>(i)], -7.0f) << count << ' ' << i;
  }
}

TEST_P(VectorTest, ReductionsSeeEveryLane) {
  const int64_t width = table().width;
  for (int64_t lane = 0; lane < width; ++lane) {
    std::vector<float> x(static_cast<size_t>(width), -2.0f);
    x[static_cast<size_t>(lane)] = 5.0f;
    const float sum = 5.0f - 2.0f * static_cast<float>(width - 1);
    EXPECT_EQ(table().sum(x.data()), sum);
    EXPECT_EQ(table().sum_widened(x.data()), sum);
    EXPECT_EQ(table().max_lane(x.data()), 5.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(AllIsas, VectorTest, testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace cadre::kernels
