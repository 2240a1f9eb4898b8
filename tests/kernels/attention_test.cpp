#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/error.h"

namespace cadre::kernels {
namespace {

struct Case {
  int64_t batch, queries, keys, key_stride, heads, kv_heads, head_dim;
  int64_t document;  // length of every document; 0: no segments
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.batch << "x" << c.queries << " of " << c.keys << "/" << c.key_stride << " heads " << c.heads << "/"
             << c.kv_heads << "x" << c.head_dim << " documents " << c.document;
}

AttentionShape shape_of(const Case& c) {
  return {c.batch, c.queries,  c.keys,     c.key_stride,
          c.heads, c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<double>(c.head_dim))};
}

// Rows wider than the matrix, so that strides matter.
template <class T>
struct Matrix {
  Matrix(int64_t row_count, int64_t col_count, T fill = 0)
      : rows(row_count), cols(col_count), stride(col_count + 3), values(static_cast<size_t>(rows * stride + 1), fill) {}
  TensorView view() { return {values.data(), DtypeOf<T>::value, Shape{rows, cols}, stride}; }
  T& at(int64_t row, int64_t col) { return values[static_cast<size_t>(row * stride + col)]; }

  int64_t rows, cols, stride;
  std::vector<T> values;
};

template <class T>
void randomize(Matrix<T>& matrix, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < matrix.rows; ++i) {
    for (int64_t j = 0; j < matrix.cols; ++j) matrix.at(i, j) = static_cast<T>(normal(generator));
  }
}

template <class T>
struct Problem {
  explicit Problem(const Case& c)
      : shape(shape_of(c)),
        q(c.batch * c.queries, c.heads * c.head_dim),
        k(c.batch * c.key_stride, c.kv_heads * c.head_dim),
        v(k),
        out(q.rows, q.cols, T(7)),
        lse(q.rows, c.heads, T(7)),
        dout(q),
        dq(q.rows, q.cols, T(7)),
        dk(k.rows, k.cols, T(7)),
        dv(k.rows, k.cols, T(7)) {
    randomize(q, 1);
    randomize(k, 2);
    randomize(v, 3);
    randomize(dout, 4);
    for (int64_t i = 0; c.document > 0 && i < c.batch * c.queries; ++i) {
      const int64_t position = c.keys - c.queries + i % c.queries;
      segments.push_back(static_cast<int32_t>(position / c.document * c.document));
    }
  }
  TensorView segment_start() {
    if (segments.empty()) return {};
    return {segments.data(), Dtype::kI32, Shape{static_cast<int64_t>(segments.size())}, 1};
  }
  void forward(const Exec& exec) {
    attention_forward(exec, shape, q.view(), k.view(), v.view(), segment_start(), out.view(), lse.view());
  }
  void backward(const Exec& exec) {
    attention_backward(exec, shape, q.view(), k.view(), v.view(), segment_start(), out.view(), lse.view(), dout.view(),
                       dq.view(), dk.view(), dv.view());
  }

  AttentionShape shape;
  Matrix<T> q, k, v, out, lse, dout, dq, dk, dv;
  std::vector<int32_t> segments;
};

void expect_close(Matrix<float>& got, Matrix<double>& wanted, double tolerance, const char* name) {
  for (int64_t i = 0; i < wanted.rows; ++i) {
    for (int64_t j = 0; j < wanted.cols; ++j) {
      ASSERT_NEAR(got.at(i, j), wanted.at(i, j), tolerance * (1 + std::abs(wanted.at(i, j))))
          << name << " at " << i << ", " << j;
    }
    for (int64_t j = wanted.cols; j < wanted.stride; ++j) {
      ASSERT_EQ(got.at(i, j), got.values.back()) << name << " wrote past row " << i;
    }
  }
}

template <class T>
bool same_bits(const Matrix<T>& a, const Matrix<T>& b) {
  return std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(T)) == 0;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_available(isa)) isas.push_back(isa);
  }
  return isas;
}

const Case kTraining[] = {
    {1, 1, 1, 1, 1, 1, 2, 0},        {2, 5, 5, 5, 2, 1, 6, 0},         {3, 33, 33, 33, 3, 3, 20, 0},
    {1, 129, 129, 129, 4, 2, 32, 0}, {2, 257, 257, 257, 2, 2, 64, 0},  {1, 129, 129, 129, 6, 2, 7, 0},
    {2, 33, 33, 33, 4, 1, 64, 5},    {1, 257, 257, 257, 3, 1, 16, 70}, {2, 129, 129, 129, 2, 2, 48, 1},
    {1, 64, 64, 64, 1, 1, 128, 0},   {1, 31, 31, 31, 5, 5, 33, 17},
};

const Case kDecoding[] = {
    {1, 1, 1, 4, 1, 1, 64, 0},      {2, 1, 37, 64, 4, 4, 64, 0},  {3, 1, 200, 211, 8, 2, 20, 0},
    {1, 3, 129, 130, 12, 4, 32, 0}, {2, 17, 90, 100, 3, 1, 6, 0}, {2, 2, 130, 140, 2, 1, 64, 60},
};

TEST(Attention, ForwardAgreesWithReferenceInEveryInstructionSet) {
  std::vector<Case> cases(std::begin(kTraining), std::end(kTraining));
  cases.insert(cases.end(), std::begin(kDecoding), std::end(kDecoding));
  for (const Case& c : cases) {
    ThreadPool one(1);
    Problem<double> reference(c);
    reference.forward({one, Isa::kPortable});
    for (const Isa isa : available_isas()) {
      SCOPED_TRACE(testing::Message() << c << " on " << name_of(isa));
      Problem<float> fast(c);
      fast.forward({one, isa});
      expect_close(fast.out, reference.out, 3e-6, "out");
      expect_close(fast.lse, reference.lse, 3e-6, "lse");
    }
  }
}

TEST(Attention, BackwardAgreesWithReferenceInEveryInstructionSet) {
  for (const Case& c : kTraining) {
    ThreadPool one(1);
    Problem<double> reference(c);
    reference.forward({one, Isa::kPortable});
    reference.backward({one, Isa::kPortable});
    for (const Isa isa : available_isas()) {
      SCOPED_TRACE(testing::Message() << c << " on " << name_of(isa));
      Problem<float> fast(c);
      fast.forward({one, isa});
      fast.backward({one, isa});
      expect_close(fast.dq, reference.dq, 1e-5, "dq");
      expect_close(fast.dk, reference.dk, 1e-5, "dk");
      expect_close(fast.dv, reference.dv, 1e-5, "dv");
    }
  }
}

// 1, 2 and 3 threads take units whole or in two passes, depending on the case.
TEST(Attention, BitsDoNotDependOnThreads) {
  for (const Case& c : kTraining) {
    for (const Isa isa : available_isas()) {
      SCOPED_TRACE(testing::Message() << c << " on " << name_of(isa));
      ThreadPool one(1);
      Problem<float> serial(c);
      serial.forward({one, isa});
      serial.backward({one, isa});
      for (const int threads : {2, 3, 5}) {
        ThreadPool pool(threads);
        Problem<float> shared(c);
        shared.forward({pool, isa});
        shared.backward({pool, isa});
        EXPECT_TRUE(same_bits(serial.out, shared.out)) << threads;
        EXPECT_TRUE(same_bits(serial.lse, shared.lse)) << threads;
        EXPECT_TRUE(same_bits(serial.dq, shared.dq)) << threads;
        EXPECT_TRUE(same_bits(serial.dk, shared.dk)) << threads;
        EXPECT_TRUE(same_bits(serial.dv, shared.dv)) << threads;
      }
    }
  }
}

TEST(Attention, DecodedRowIsTheRowOfAFullForward) {
  const Case whole{2, 77, 77, 77, 4, 2, 32, 0};
  ThreadPool pool(2);
  const Exec exec{pool, best_isa()};
  Problem<float> full(whole);
  full.forward(exec);
  for (const int64_t length : {1, 16, 40, 77}) {
    Problem<float> step({2, 1, length, 77, 4, 2, 32, 0});
    step.k = full.k;
    step.v = full.v;
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t j = 0; j < step.q.cols; ++j) step.q.at(b, j) = full.q.at(b * 77 + length - 1, j);
    }
    step.forward(exec);
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t j = 0; j < step.q.cols; ++j) {
        EXPECT_NEAR(step.out.at(b, j), full.out.at(b * 77 + length - 1, j), 2e-6) << length << ": " << b << ", " << j;
      }
    }
  }
}

TEST(Attention, ReferenceOfEqualScoresIsTheMeanOfSeenValues) {
  const Case c{1, 4, 4, 4, 1, 1, 2, 2};
  ThreadPool one(1);
  Problem<double> problem(c);
  for (double& x : problem.q.values) x = 0;
  problem.forward({one, Isa::kPortable});
  for (int64_t j = 0; j < 2; ++j) {
    EXPECT_DOUBLE_EQ(problem.out.at(0, j), problem.v.at(0, j));
    EXPECT_DOUBLE_EQ(problem.out.at(1, j), (problem.v.at(0, j) + problem.v.at(1, j)) / 2);
    EXPECT_DOUBLE_EQ(problem.out.at(2, j), problem.v.at(2, j));
    EXPECT_DOUBLE_EQ(problem.out.at(3, j), (problem.v.at(2, j) + problem.v.at(3, j)) / 2);
  }
  EXPECT_DOUBLE_EQ(problem.lse.at(0, 0), 0);
  EXPECT_DOUBLE_EQ(problem.lse.at(3, 0), std::log(2.0));
}

double loss(Problem<double>& problem, const Exec& exec) {
  problem.forward(exec);
  double sum = 0;
  for (int64_t i = 0; i < problem.out.rows; ++i) {
    for (int64_t j = 0; j < problem.out.cols; ++j) sum += problem.out.at(i, j) * problem.dout.at(i, j);
  }
  return sum;
}

TEST(Attention, ReferenceGradientAgreesWithFiniteDifferences) {
  ThreadPool one(1);
  const Exec exec{one, Isa::kPortable};
  Problem<double> problem({2, 7, 7, 7, 4, 2, 6, 3});
  problem.forward(exec);
  problem.backward(exec);
  struct {
    Matrix<double>&value, &gradient;
  } const pairs[] = {{problem.q, problem.dq}, {problem.k, problem.dk}, {problem.v, problem.dv}};
  constexpr double kStep = 1e-5;
  for (const auto& [value, gradient] : pairs) {
    for (int64_t i = 0; i < value.rows; ++i) {
      for (int64_t j = 0; j < value.cols; ++j) {
        const double before = value.at(i, j);
        value.at(i, j) = before + kStep;
        const double above = loss(problem, exec);
        value.at(i, j) = before - kStep;
        const double below = loss(problem, exec);
        value.at(i, j) = before;
        ASSERT_NEAR((above - below) / (2 * kStep), gradient.at(i, j), 1e-8) << i << ", " << j;
      }
    }
  }
}

TEST(Attention, HugeScoresStayFiniteAndRowsThatSeeNothingAreZero) {
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    ThreadPool one(1);
    Problem<float> problem({1, 40, 40, 40, 1, 1, 8, 40});
    for (float& x : problem.q.values) x *= 1e4f;
    problem.segments[5] = 6;
    problem.forward({one, isa});
    problem.backward({one, isa});
    for (int64_t j = 0; j < 8; ++j) {
      EXPECT_EQ(problem.out.at(5, j), 0);
      EXPECT_EQ(problem.dq.at(5, j), 0);
      for (int64_t i = 0; i < 40; ++i) {
        EXPECT_TRUE(std::isfinite(problem.out.at(i, j)));
        EXPECT_TRUE(std::isfinite(problem.dk.at(i, j)));
      }
    }
    EXPECT_EQ(problem.lse.at(5, 0), -std::numeric_limits<float>::infinity());
  }
}

TEST(Attention, NanIsNotSwallowed) {
  for (const Isa isa : available_isas()) {
    ThreadPool one(1);
    Problem<float> problem({1, 70, 70, 70, 1, 1, 8, 0});
    problem.k.at(3, 2) = std::numeric_limits<float>::quiet_NaN();
    problem.forward({one, isa});
    EXPECT_TRUE(std::isnan(problem.out.at(69, 0))) << name_of(isa);
    EXPECT_TRUE(std::isnan(problem.lse.at(69, 0))) << name_of(isa);
  }
}

TEST(Attention, WrongShapesAreNamed) {
  ThreadPool one(1);
  Problem<float> problem({1, 4, 4, 4, 4, 2, 8, 0});
  problem.shape.kv_heads = 3;
  EXPECT_THROW(problem.forward({one, Isa::kPortable}), InternalError);
  problem.shape.kv_heads = 4;
  try {
    problem.forward({one, Isa::kPortable});
    FAIL() << "k of 2 heads was taken for 4";
  } catch (const InternalError& error) {
    EXPECT_STREQ(error.what(), "attention_forward: k is f32 [4, 16], wanted f32 [4, 32]");
  }
}

}  // namespace
}  // namespace cadre::kernels
