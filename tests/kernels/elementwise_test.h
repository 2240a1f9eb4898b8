#pragma once
// What the tests of the small kernel families share: one body that runs a kernel for a dtype and returns its outputs is
// run in f64 (the reference), and in f32 for every instruction set and 1, 2 and 3 threads.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"

namespace cadre::kernels {

inline const std::shared_ptr<Allocator>& test_allocator() {
  static const std::shared_ptr<Allocator> allocator = make_host_allocator();
  return allocator;
}

inline Tensor zeros(Dtype dtype, Shape shape) { return Tensor::zeros(*test_allocator(), dtype, shape); }

template <class T>
Tensor tensor_of(Shape shape, const std::vector<T>& values) {
  Tensor tensor = Tensor::empty(*test_allocator(), DtypeOf<T>::value, shape);
  EXPECT_EQ(tensor.elements(), static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), tensor.data<T>());
  return tensor;
}

template <class T>
std::vector<T> values_of(const Tensor& tensor) {
  return std::vector<T>(tensor.data<T>(), tensor.data<T>() + tensor.elements());
}

// Normal values that f32 holds exactly, the same for both dtypes.
inline Tensor random_tensor(Dtype dtype, Shape shape, uint64_t stream, double deviation = 1) {
  Tensor tensor = Tensor::empty(*test_allocator(), dtype, shape);
  Rng rng(7, RngPurpose::kTest, stream);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    const float value = static_cast<float>(rng.normal() * deviation);
    if (dtype == Dtype::kF64) {
      tensor.data<double>()[i] = static_cast<double>(value);
    } else {
      tensor.data<float>()[i] = value;
    }
  }
  return tensor;
}

inline Tensor random_ids(Shape shape, int64_t bound, uint64_t stream) {
  Tensor tensor = Tensor::empty(*test_allocator(), Dtype::kI32, shape);
  Rng rng(7, RngPurpose::kTest, stream);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    tensor.data<int32_t>()[i] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(bound)));
  }
  return tensor;
}

inline double value_at(const Tensor& tensor, int64_t i) {
  switch (tensor.dtype()) {
    case Dtype::kF64: return tensor.data<double>()[i];
    case Dtype::kF32: return static_cast<double>(tensor.data<float>()[i]);
    case Dtype::kI64: return static_cast<double>(tensor.data<int64_t>()[i]);
    default: return static_cast<double>(tensor.data<int32_t>()[i]);
  }
}

// |got - wanted| <= tolerance * (1 + |wanted|).
inline void expect_close(const Tensor& got, const Tensor& wanted, double tolerance, const std::string& what) {
  ASSERT_EQ(got.elements(), wanted.elements()) << what;
  for (int64_t i = 0; i < got.elements(); ++i) {
    const double value = value_at(got, i);
    const double expected = value_at(wanted, i);
    if (value == expected || (std::isnan(value) && std::isnan(expected))) continue;
    ASSERT_LE(std::abs(value - expected), tolerance * (1 + std::abs(expected)))
        << what << ", element " << i << " of " << got.shape().to_string() << ": " << value << ", wanted " << expected;
  }
}

inline void expect_same_bits(const Tensor& a, const Tensor& b, const std::string& what) {
  ASSERT_EQ(a.bytes(), b.bytes()) << what;
  if (a.bytes() == 0) return;
  ASSERT_EQ(std::memcmp(a.raw(), b.raw(), a.bytes()), 0) << what << ": bits differ";
}

// body(exec) for every instruction set of this machine.
template <class Body>
void for_each_isa(Body body, int threads = 2) {
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (!isa_available(isa)) continue;
    ThreadPool pool(threads);
    body(Exec{pool, isa});
  }
}

// run(exec, dtype) returns outputs. f32 must be close to f64, and have the same bits for any number of threads.
template <class Run>
void compare_with_reference(Run run, double tolerance, const std::string& what) {
  ThreadPool one(1);
  const std::vector<Tensor> wanted = run(Exec{one, Isa::kPortable}, Dtype::kF64);
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (!isa_available(isa)) continue;
    std::vector<Tensor> first;
    for (int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      const std::vector<Tensor> got = run(Exec{pool, isa}, Dtype::kF32);
      ASSERT_EQ(got.size(), wanted.size());
      if (first.empty()) first = got;
      for (size_t i = 0; i < got.size(); ++i) {
        const std::string name = what + ", " + std::string(name_of(isa)) + ", " + std::to_string(threads) +
                                 " threads, output " + std::to_string(i);
        expect_close(got[i], wanted[i], tolerance, name);
        expect_same_bits(got[i], first[i], name);
      }
    }
  }
}

// Central differences in f64 of value(), a function of `x`, against `gradient`.
template <class Value>
void expect_gradient(const Tensor& x, const Tensor& gradient, Value value, double tolerance, const std::string& what) {
  constexpr double kStep = 1e-5;
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double at = x.data<double>()[i];
    x.data<double>()[i] = at + kStep;
    const double above = value();
    x.data<double>()[i] = at - kStep;
    const double below = value();
    x.data<double>()[i] = at;
    const double numeric = (above - below) / (2 * kStep);
    ASSERT_NEAR(gradient.data<double>()[i], numeric, tolerance * (1 + std::abs(numeric))) << what << ", element " << i;
  }
}

inline double dot(const Tensor& a, const Tensor& b) {
  double total = 0;
  for (int64_t i = 0; i < a.elements(); ++i) total += value_at(a, i) * value_at(b, i);
  return total;
}

// A tensor whose rows lie apart in storage of their own, filled with a copy of `tensor`.
inline TensorView with_padded_rows(const Exec& exec, const Tensor& tensor, int64_t padding, Tensor& storage) {
  const TensorView view = tensor;
  storage = zeros(tensor.dtype(), {view.rows(), view.cols() + padding});
  const TensorView part = storage.view().columns(0, view.cols());
  TensorView flat = view;
  flat.shape = Shape{view.rows(), view.cols()};
  copy(exec, flat, part);
  return part;
}

}  // namespace cadre::kernels
