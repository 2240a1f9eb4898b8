#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/error.h"
#include "kernels/attention.h"

namespace cadre::kernels {
namespace {

struct Case {
  int64_t tokens, heads, kv_heads, head_dim;
  bool norm;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.tokens << " tokens, heads " << c.heads << "/" << c.kv_heads << "x" << c.head_dim
             << (c.norm ? " with norm" : "");
}

template <class T>
struct Matrix {
  Matrix(int64_t row_count, int64_t col_count, int64_t spare, uint32_t seed)
      : rows(row_count), cols(col_count), stride(col_count + spare), values(static_cast<size_t>(rows * stride)) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    for (T& value : values) value = static_cast<T>(normal(generator));
  }
  TensorView view() { return {values.data(), DtypeOf<T>::value, Shape{rows, cols}, stride}; }
  T& at(int64_t row, int64_t col) { return values[static_cast<size_t>(row * stride + col)]; }

  int64_t rows, cols, stride;
  std::vector<T> values;
};

constexpr int64_t kPositions = 50;

template <class T>
struct Problem {
  explicit Problem(const Case& c)
      : shape{c.heads, c.kv_heads, c.head_dim, 1e-5},
        norm(c.norm),
        width((c.heads + 2 * c.kv_heads) * c.head_dim),
        qkv(c.tokens, width, 5, 1),
        table(kPositions, c.head_dim, 0, 2),
        out(c.tokens, width, 5, 3),
        dout(c.tokens, width, 5, 4),
        dqkv(c.tokens, width, 5, 5),
        rstd(c.tokens, c.heads + c.kv_heads, 0, 6),
        q_weight(1, c.head_dim, 0, 7),
        k_weight(1, c.head_dim, 0, 8),
        dq_weight(1, c.head_dim, 0, 9),
        dk_weight(1, c.head_dim, 0, 10) {
    for (int64_t token = 0; token < c.tokens; ++token)
      positions.push_back(static_cast<int32_t>(token * 7 % kPositions));
  }
  TensorView position_view() {
    return {positions.data(), Dtype::kI32, Shape{static_cast<int64_t>(positions.size())}, qkv.rows};
  }
  TensorView if_norm(Matrix<T>& matrix) { return norm ? matrix.view() : TensorView{}; }
  void forward(const Exec& exec) {
    rotary_table(exec, 10000.0, table.view());
    rotary_forward(exec, shape, qkv.view(), position_view(), table.view(), if_norm(q_weight), if_norm(k_weight),
                   out.view(), if_norm(rstd));
  }
  void backward(const Exec& exec, Write write) {
    rotary_backward(exec, shape, qkv.view(), position_view(), table.view(), if_norm(q_weight), if_norm(k_weight),
                    if_norm(rstd), dout.view(), dqkv.view());
    if (!norm) return;
    rotary_weight_gradient(exec, shape, qkv.view(), position_view(), table.view(), rstd.view(), dout.view(),
                           dq_weight.view(), dk_weight.view(), write);
  }

  RotaryShape shape;
  bool norm;
  int64_t width;
  Matrix<T> qkv, table, out, dout, dqkv, rstd, q_weight, k_weight, dq_weight, dk_weight;
  std::vector<int32_t> positions;
};

const Case kCases[] = {
    {1, 1, 1, 2, false},   {3, 2, 1, 6, true},    {5, 3, 3, 20, true},  {33, 4, 2, 32, false},
    {129, 4, 2, 64, true}, {67, 1, 1, 128, true}, {17, 6, 2, 66, true}, {200, 2, 2, 48, false},
};

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_available(isa)) isas.push_back(isa);
  }
  return isas;
}

// All of the storage, so that a write between rows shows.
void expect_close(const Matrix<float>& got, const Matrix<double>& wanted, double tolerance, const char* name) {
  for (size_t i = 0; i < wanted.values.size(); ++i) {
    ASSERT_NEAR(got.values[i], wanted.values[i], tolerance * (1 + std::abs(wanted.values[i]))) << name << " at " << i;
  }
}

TEST(Rotary, AgreesWithReferenceInEveryInstructionSet) {
  for (const Case& c : kCases) {
    for (const Write write : {Write::kOverwrite, Write::kAccumulate}) {
      ThreadPool pool(1);
      Problem<double> reference(c);
      reference.forward({pool, Isa::kPortable});
      reference.backward({pool, Isa::kPortable}, write);
      for (const Isa isa : available_isas()) {
        SCOPED_TRACE(testing::Message() << c << " on " << name_of(isa));
        Problem<float> fast(c);
        fast.forward({pool, isa});
        fast.backward({pool, isa}, write);
        expect_close(fast.table, reference.table, 1e-7, "table");
        expect_close(fast.out, reference.out, 2e-6, "out");
        expect_close(fast.rstd, reference.rstd, 1e-6, "rstd");
        expect_close(fast.dqkv, reference.dqkv, 3e-6, "dqkv");
        expect_close(fast.dq_weight, reference.dq_weight, 2e-5, "dq_weight");
        expect_close(fast.dk_weight, reference.dk_weight, 2e-5, "dk_weight");
      }
    }
  }
}

TEST(Rotary, BitsDoNotDependOnThreads) {
  for (const Case& c : kCases) {
    for (const Isa isa : available_isas()) {
      ThreadPool one(1);
      Problem<float> serial(c);
      serial.forward({one, isa});
      serial.backward({one, isa}, Write::kOverwrite);
      for (const int threads : {2, 3}) {
        ThreadPool pool(threads);
        Problem<float> shared(c);
        shared.forward({pool, isa});
        shared.backward({pool, isa}, Write::kOverwrite);
        EXPECT_EQ(serial.out.values, shared.out.values) << c << threads;
        EXPECT_EQ(serial.dqkv.values, shared.dqkv.values) << c << threads;
        EXPECT_EQ(serial.dq_weight.values, shared.dq_weight.values) << c << threads;
        EXPECT_EQ(serial.dk_weight.values, shared.dk_weight.values) << c << threads;
      }
    }
  }
}

TEST(Rotary, TurnsHalvesAgainstEachOtherByPosition) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  Problem<double> problem({1, 1, 1, 4, false});
  problem.positions[0] = 3;
  problem.forward(exec);
  const double x[4] = {problem.qkv.at(0, 0), problem.qkv.at(0, 1), problem.qkv.at(0, 2), problem.qkv.at(0, 3)};
  const double slow = 3 * 0.01;  // 10000^(-1/2)
  EXPECT_NEAR(problem.out.at(0, 0), x[0] * std::cos(3.0) - x[2] * std::sin(3.0), 1e-15);
  EXPECT_NEAR(problem.out.at(0, 2), x[2] * std::cos(3.0) + x[0] * std::sin(3.0), 1e-15);
  EXPECT_NEAR(problem.out.at(0, 1), x[1] * std::cos(slow) - x[3] * std::sin(slow), 1e-15);
  EXPECT_NEAR(problem.out.at(0, 3), x[3] * std::cos(slow) + x[1] * std::sin(slow), 1e-15);
  for (int64_t j = 8; j < 12; ++j) EXPECT_EQ(problem.out.at(0, j), problem.qkv.at(0, j));
}

double loss(Problem<double>& problem, const Exec& exec) {
  problem.forward(exec);
  double sum = 0;
  for (int64_t i = 0; i < problem.out.rows; ++i) {
    for (int64_t j = 0; j < problem.out.cols; ++j) sum += problem.out.at(i, j) * problem.dout.at(i, j);
  }
  return sum;
}

TEST(Rotary, ReferenceGradientsAgreeWithFiniteDifferences) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  for (const bool norm : {false, true}) {
    Problem<double> problem({4, 3, 2, 6, norm});
    problem.forward(exec);
    problem.backward(exec, Write::kOverwrite);
    struct {
      Matrix<double>&value, &gradient;
    } const pairs[] = {
        {problem.qkv, problem.dqkv}, {problem.q_weight, problem.dq_weight}, {problem.k_weight, problem.dk_weight}};
    constexpr double kStep = 1e-5;
    for (const auto& [value, gradient] : pairs) {
      if (!norm && &value != &problem.qkv) continue;
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
}

TEST(Rotary, PositionsOutsideTheTableAreNamed) {
  ThreadPool pool(1);
  Problem<float> problem({3, 1, 1, 4, false});
  problem.positions[2] = 50;
  try {
    problem.forward({pool, Isa::kPortable});
    FAIL() << "position 50 was looked up in a table of 50";
  } catch (const InternalError& error) {
    EXPECT_STREQ(error.what(), "rotary_forward: token 2 stands at position 50, the table has 0..49");
  }
}

}  // namespace
}  // namespace cadre::kernels
