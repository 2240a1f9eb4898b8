#include "kernels/elementwise.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/reference/elementwise.h"

namespace cadre::kernels {
namespace {

constexpr int64_t kGrain = 8192;
constexpr int64_t kSumBlock = 4096;

template <class T>
T* at(const TensorView& view, int64_t row, int64_t col) {
  return view.as<T>() + row * view.row_stride + col;
}

// body(row, begin, end): columns of a row. Views that are all contiguous are walked as one long row.
template <class Body>
void for_runs(const Exec& exec, std::initializer_list<TensorView> views, Body body) {
  const TensorView& first = *views.begin();
  if (std::all_of(views.begin(), views.end(), [](const TensorView& view) { return view.contiguous(); })) {
    parallel_for(exec.threads, first.rows() * first.cols(), kGrain,
                 [&](int64_t begin, int64_t end) { body(int64_t{0}, begin, end); });
    return;
  }
  const int64_t cols = first.cols();
  parallel_for(exec.threads, first.rows(), std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) body(row, int64_t{0}, cols);
               });
}

// An operand that is left out is a default view; one of no rows may have no data either.
bool is_given(const TensorView& operand) { return operand || operand.shape.rank() > 0; }

bool same_shape(const TensorView& a, const TensorView& b) { return a.rows() == b.rows() && a.cols() == b.cols(); }

template <class From, class To>
void convert(const Exec& exec, const TensorView& from, const TensorView& to) {
  for_runs(exec, {from, to}, [&](int64_t row, int64_t begin, int64_t end) {
    std::transform(at<From>(from, row, begin), at<From>(from, row, end), at<To>(to, row, begin),
                   [](From value) { return static_cast<To>(value); });
  });
}

template <class T>
void fill_with(const Exec& exec, const TensorView& x, T value) {
  for_runs(exec, {x}, [&](int64_t row, int64_t begin, int64_t end) {
    std::fill(at<T>(x, row, begin), at<T>(x, row, end), value);
  });
}

// The elements [begin, end) of x in row order; `buffer` is used when they are not contiguous.
const float* gather_block(const TensorView& x, int64_t begin, int64_t end, float* buffer) {
  if (x.contiguous()) return x.as<float>() + begin;
  const int64_t cols = x.cols();
  for (int64_t element = begin; element < end;) {
    const int64_t col = element % cols;
    const int64_t count = std::min(cols - col, end - element);
    std::memcpy(buffer + (element - begin), at<float>(x, element / cols, col),
                static_cast<size_t>(count) * sizeof(float));
    element += count;
  }
  return buffer;
}

}  // namespace

void require(bool holds, std::string_view op, std::initializer_list<TensorView> operands) {
  if (holds) return;
  std::string message = std::string(op) + ": operands do not fit:";
  for (const TensorView& operand : operands) {
    if (is_given(operand)) message += " " + std::string(name_of(operand.dtype)) + operand.shape.to_string();
  }
  throw InternalError(message);
}

bool wants_reference(std::string_view op, std::initializer_list<TensorView> operands) {
  const auto all_are = [&](Dtype dtype) {
    return std::all_of(operands.begin(), operands.end(),
                       [&](const TensorView& operand) { return !is_given(operand) || operand.dtype == dtype; });
  };
  if (all_are(Dtype::kF32)) return false;
  require(all_are(Dtype::kF64), op, operands);
  return true;
}

void fill(const Exec& exec, TensorView x, double value) {
  if (exec.dry) return;
  switch (x.dtype) {
    case Dtype::kF64: return fill_with<double>(exec, x, value);
    case Dtype::kI64: return fill_with<int64_t>(exec, x, static_cast<int64_t>(value));
    case Dtype::kI32: return fill_with<int32_t>(exec, x, static_cast<int32_t>(value));
    case Dtype::kF32: break;
    default: require(false, "fill", {x});
  }
  const cpu::ElementwiseTable& table = CADRE_SIMD_SELECT(exec.isa, kElementwiseTable);
  for_runs(exec, {x}, [&](int64_t row, int64_t begin, int64_t end) {
    table.fill(static_cast<float>(value), at<float>(x, row, begin), end - begin);
  });
}

void copy(const Exec& exec, TensorView from, TensorView to) {
  require(same_shape(from, to), "copy", {from, to});
  if (exec.dry) return;
  if (from.dtype == Dtype::kF64 && to.dtype == Dtype::kF32) return convert<double, float>(exec, from, to);
  if (from.dtype == Dtype::kF32 && to.dtype == Dtype::kF64) return convert<float, double>(exec, from, to);
  require(from.dtype == to.dtype, "copy", {from, to});
  const int64_t size = static_cast<int64_t>(size_of(from.dtype));
  for_runs(exec, {from, to}, [&](int64_t row, int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(to.data) + (row * to.row_stride + begin) * size,
                static_cast<const char*>(from.data) + (row * from.row_stride + begin) * size,
                static_cast<size_t>((end - begin) * size));
  });
}

void add(const Exec& exec, TensorView a, TensorView b, TensorView out) {
  require(same_shape(a, b) && same_shape(a, out), "add", {a, b, out});
  if (exec.dry) return;
  if (wants_reference("add", {a, b, out})) return reference::add(a, b, out);
  const cpu::ElementwiseTable& table = CADRE_SIMD_SELECT(exec.isa, kElementwiseTable);
  for_runs(exec, {a, b, out}, [&](int64_t row, int64_t begin, int64_t end) {
    table.add(at<float>(a, row, begin), at<float>(b, row, begin), at<float>(out, row, begin), end - begin);
  });
}

void accumulate(const Exec& exec, TensorView x, TensorView into) { add(exec, into, x, into); }

void scale(const Exec& exec, double factor, TensorView x) {
  if (exec.dry) return;
  if (wants_reference("scale", {x})) return reference::scale(factor, x);
  const cpu::ElementwiseTable& table = CADRE_SIMD_SELECT(exec.isa, kElementwiseTable);
  for_runs(exec, {x}, [&](int64_t row, int64_t begin, int64_t end) {
    table.scale(static_cast<float>(factor), at<float>(x, row, begin), end - begin);
  });
}

double sum(const Exec& exec, TensorView x) {
  if (exec.dry) return 0;
  if (wants_reference("sum", {x})) return reference::sum(x);
  const cpu::ElementwiseTable& table = CADRE_SIMD_SELECT(exec.isa, kElementwiseTable);
  const int64_t elements = x.rows() * x.cols();
  const int64_t blocks = (elements + kSumBlock - 1) / kSumBlock;
  if (blocks == 0) return 0;
  auto* sums = static_cast<double*>(exec.threads.scratch(0, static_cast<size_t>(blocks) * sizeof(double)));
  parallel_for(exec.threads, blocks, 4, [&](int64_t begin, int64_t end) {
    float buffer[kSumBlock];
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kSumBlock;
      const int64_t last = std::min(first + kSumBlock, elements);
      sums[block] = table.block_sum(gather_block(x, first, last, buffer), last - first);
    }
  });
  for (int64_t step = 1; step < blocks; step *= 2) {
    for (int64_t block = 0; block + step < blocks; block += 2 * step) sums[block] += sums[block + step];
  }
  return sums[0];
}

void row_dot(const Exec& exec, TensorView a, TensorView b, TensorView out) {
  require(same_shape(a, b) && out.rows() == a.rows() && out.cols() == 1, "row_dot", {a, b, out});
  if (exec.dry) return;
  if (wants_reference("row_dot", {a, b, out})) return reference::row_dot(a, b, out);
  const cpu::ElementwiseTable& table = CADRE_SIMD_SELECT(exec.isa, kElementwiseTable);
  const int64_t cols = a.cols();
  parallel_for(exec.threads, a.rows(), std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) {
                   *at<float>(out, row, 0) = table.dot(at<float>(a, row, 0), at<float>(b, row, 0), cols);
                 }
               });
}

}  // namespace cadre::kernels
