#include "kernels/gemm.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/reference/gemm.h"

namespace cadre::kernels {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

[[noreturn]] void fail(std::string_view op, const std::string& problem) {
  throw InternalError(fmt::format("{}: {}", op, problem));
}

void check_types(std::string_view op, std::initializer_list<Dtype> dtypes) {
  const Dtype first = *dtypes.begin();
  for (const Dtype dtype : dtypes) {
    if (dtype != first || (dtype != Dtype::kF32 && dtype != Dtype::kF64)) {
      fail(op, fmt::format("operands of type {} and {}; wanted all f32 or all f64", name_of(first), name_of(dtype)));
    }
  }
}

// Row bounds of the groups, checked; `whole` serves a call without offsets.
const int64_t* row_bounds(std::string_view op, TensorView offsets, int64_t groups, int64_t rows,
                          std::array<int64_t, 2>& whole) {
  if (!offsets) {
    if (groups != 1) fail(op, fmt::format("no offsets for {} groups; only one group may go without", groups));
    whole = {0, rows};
    return whole.data();
  }
  if (offsets.shape.elements() != groups + 1) {
    fail(op, fmt::format("{} offsets for {} groups; wanted {}", offsets.shape.elements(), groups, groups + 1));
  }
  const int64_t* bounds = offsets.as<int64_t>();
  for (int64_t group = 0; group < groups; ++group) {
    if (bounds[group] < 0 || bounds[group + 1] < bounds[group] || bounds[group + 1] > rows) {
      fail(op, fmt::format("offsets of group {} are {}, {}; wanted ascending, at most {} rows", group, bounds[group],
                           bounds[group + 1], rows));
    }
  }
  return bounds;
}

// Walks blocks of equal panels in order and hands each worker its share of the total cost: a panel belongs to the
// worker in whose share it begins. The cuts depend on the costs alone.
class Share {
 public:
  Share(int64_t total, int worker, int workers)
      : begin_(total * worker / workers), end_(total * (worker + 1) / workers) {}

  // The part of the next `panels` panels, `cost` each, that is this worker's.
  Range take(int64_t panels, int64_t cost) {
    const auto first_at = [&](int64_t bound) {
      return std::clamp<int64_t>(bound <= position_ ? 0 : ceil_div(bound - position_, cost), 0, panels);
    };
    const Range range{first_at(begin_), first_at(end_)};
    position_ += panels * cost;
    return range;
  }
  bool done() const { return position_ >= end_; }

 private:
  int64_t begin_;
  int64_t end_;
  int64_t position_ = 0;
};

// Fetching a panel costs about as much as multiplying this many rows with it.
constexpr int64_t kPanelCost = 6;

struct Product {
  const cpu::GemmTable& table;
  const float* a;
  int64_t a_stride;
  const int64_t* bounds;
  const float* panels_of_all;  // packed right operand, or null
  TensorView matrices;         // as stored
  int64_t groups;
  int64_t k;
  int64_t n;
  float* out;
  int64_t out_stride;
  bool accumulate;

  int64_t panels() const { return ceil_div(n, table.panel_width); }
  int64_t blocks(int64_t rows) const { return ceil_div(rows, table.row_block(k)); }

  int64_t total_cost() const {
    int64_t cost = 0;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t rows = bounds[group + 1] - bounds[group];
      cost += (rows + kPanelCost * blocks(rows)) * panels();
    }
    return cost;
  }

  void multiply(int64_t group, int64_t row, int64_t rows, Range part, float* scratch) const {
    cpu::MultiplyArguments arguments{};
    arguments.a = a + row * a_stride;
    arguments.a_stride = a_stride;
    arguments.rows = rows;
    arguments.k = k;
    if (panels_of_all != nullptr) {
      arguments.panels = panels_of_all + group * panels() * k * table.panel_width;
    } else {
      arguments.matrix = matrices.as<float>() + group * k * matrices.row_stride;
      arguments.matrix_stride = matrices.row_stride;
    }
    arguments.panel_begin = part.begin;
    arguments.panel_end = part.end;
    arguments.n = n;
    arguments.out = out + row * out_stride;
    arguments.out_stride = out_stride;
    arguments.accumulate = accumulate;
    arguments.scratch = scratch;
    table.multiply(arguments);
  }

  void run_share(Share share, float* scratch) const {
    for (int64_t group = 0; group < groups && !share.done(); ++group) {
      const int64_t rows = bounds[group + 1] - bounds[group];
      const int64_t count = blocks(rows);
      for (int64_t block = 0; block < count; ++block) {
        const int64_t begin = rows * block / count;
        const int64_t height = rows * (block + 1) / count - begin;
        const Range part = share.take(panels(), height + kPanelCost);
        if (part.begin >= part.end) continue;
        const int64_t row = bounds[group] + begin;
        multiply(group, row, height, part, scratch);
      }
    }
  }
};

struct WeightGradient {
  const cpu::GemmTable& table;
  TensorView dy;
  TensorView x;
  const int64_t* bounds;
  int64_t groups;
  int64_t height;  // rows of one group's dw
  TensorView dw;
  bool accumulate;

  int64_t total_cost() const { return (bounds[groups] - bounds[0] + kPanelCost * groups) * height; }

  // A group's columns are cut as well once many workers share it: square pieces need the least packing.
  int64_t column_parts(int workers) const {
    const double sharers = static_cast<double>(workers) / static_cast<double>(groups);
    const double parts = std::round(std::sqrt(sharers * static_cast<double>(x.cols()) / static_cast<double>(height)));
    const int64_t panels = ceil_div(x.cols(), table.panel_width);
    return std::clamp<int64_t>(sharers < 4 ? 1 : static_cast<int64_t>(parts), 1, panels);
  }

  void run_share(int worker, int workers, float* scratch) const {
    const int64_t parts = column_parts(workers);
    Share share(total_cost() * parts, worker, workers);
    for (int64_t group = 0; group < groups && !share.done(); ++group) {
      const int64_t rows = bounds[group + 1] - bounds[group];
      for (int part = 0; part < parts; ++part) {
        const Range strip = share.take(height, rows + kPanelCost);
        const Range columns = split(x.cols(), part, static_cast<int>(parts), table.panel_width);
        if (strip.begin < strip.end && columns.begin < columns.end) run_piece(group, rows, strip, columns, scratch);
      }
    }
  }

  void run_piece(int64_t group, int64_t rows, Range strip, Range columns, float* scratch) const {
    float* const target = dw.as<float>() + group * height * dw.row_stride;
    if (rows == 0) {
      if (accumulate) return;
      for (int64_t i = strip.begin; i < strip.end; ++i) {
        std::fill(target + i * dw.row_stride + columns.begin, target + i * dw.row_stride + columns.end, 0.0f);
      }
      return;
    }
    table.weight_gradient({dy.as<float>() + bounds[group] * dy.row_stride, dy.row_stride,
                           x.as<float>() + bounds[group] * x.row_stride, x.row_stride, rows, strip.begin, strip.end,
                           columns.begin, columns.end, target, dw.row_stride, accumulate, scratch});
  }
};

int64_t groups_of(TensorView weights) { return weights.shape.rank() == 3 ? weights.shape[0] : 1; }

void check_rank(std::string_view op, TensorView weights) {
  if (weights.shape.rank() == 2 || weights.shape.rank() == 3) return;
  fail(op, fmt::format("weights {}; wanted [groups, r, c] or [r, c]", weights.shape.to_string()));
}

RightOperand operand_of(TensorView weights, Operand operand) {
  const bool transposed = operand == Operand::kTransposed;
  return {weights, false, groups_of(weights), weights.shape[transposed ? -1 : -2], weights.shape[transposed ? -2 : -1]};
}

int64_t packed_elements(const Exec& exec, Dtype dtype, const RightOperand& b) {
  const int64_t width = dtype == Dtype::kF64 ? 1 : CADRE_SIMD_SELECT(exec.isa, kGemmTable).panel_width;
  return b.groups * b.k * ceil_div(b.n, width) * width;
}

void pack_f32(const Exec& exec, TensorView weights, Operand operand, const RightOperand& packed) {
  const cpu::GemmTable& table = CADRE_SIMD_SELECT(exec.isa, kGemmTable);
  const int64_t rows = weights.shape[-2], panels = ceil_div(packed.n, table.panel_width);
  const bool transposed = operand == Operand::kTransposed;
  const int64_t units = transposed ? panels : rows;
  parallel_for(exec.threads, packed.groups * units, 1, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin / units; group * units < end; ++group) {
      const cpu::PackArguments arguments{weights.as<float>() + group * rows * weights.row_stride,
                                         weights.row_stride,
                                         rows,
                                         weights.cols(),
                                         std::max(begin - group * units, int64_t{0}),
                                         std::min(end - group * units, units),
                                         packed.values.as<float>() + group * panels * packed.k * table.panel_width};
      (transposed ? table.pack_transposed : table.pack_as_stored)(arguments);
    }
  });
}

}  // namespace

int64_t packed_elements(const Exec& exec, TensorView weights, Operand operand) {
  check_rank("packed_elements", weights);
  return packed_elements(exec, weights.dtype, operand_of(weights, operand));
}

RightOperand RightOperand::slice(int64_t first, int64_t count) const {
  if (first == 0 && count == groups) return *this;
  RightOperand part = *this;
  const int64_t group = packed ? values.shape.elements() / groups : values.shape[-2] * values.row_stride;
  part.values.data = static_cast<char*>(values.data) + static_cast<size_t>(first * group) * size_of(values.dtype);
  part.values.shape = packed ? Shape{count * group} : values.shape.with(0, count);
  part.groups = count;
  return part;
}

RightOperand as_stored(TensorView weights) {
  check_rank("as_stored", weights);
  return operand_of(weights, Operand::kAsStored);
}

RightOperand pack(const Exec& exec, TensorView weights, Operand operand, TensorView storage) {
  constexpr std::string_view kOp = "pack";
  check_types(kOp, {weights.dtype, storage.dtype});
  check_rank(kOp, weights);
  RightOperand packed = operand_of(weights, operand);
  packed.values = storage;
  packed.packed = true;
  const int64_t needed = packed_elements(exec, weights.dtype, packed);
  if (storage.shape.elements() < needed) {
    fail(kOp, fmt::format("storage of {} elements for weights {}; wanted {}", storage.shape.elements(),
                          weights.shape.to_string(), needed));
  }
  packed.values.shape = Shape{needed};
  if (needed == 0 || exec.dry) return packed;
  if (weights.dtype == Dtype::kF64) {
    reference::pack(weights, operand, packed);
  } else {
    pack_f32(exec, weights, operand, packed);
  }
  return packed;
}

void grouped_gemm(const Exec& exec, TensorView a, TensorView offsets, const RightOperand& b, TensorView out,
                  Write write) {
  constexpr std::string_view kOp = "grouped_gemm";
  check_types(kOp, {a.dtype, b.values.dtype, out.dtype});
  const int64_t needed = b.packed ? packed_elements(exec, a.dtype, b) : b.groups * b.k * b.n;
  if (a.cols() != b.k || out.cols() != b.n || a.rows() != out.rows() || b.values.shape.elements() < needed) {
    fail(kOp, fmt::format("a {}, right operand [{}, {}, {}] in {} elements, out {}", a.shape.to_string(), b.groups, b.k,
                          b.n, b.values.shape.elements(), out.shape.to_string()));
  }
  std::array<int64_t, 2> whole;
  const int64_t* bounds = row_bounds(kOp, offsets, b.groups, a.rows(), whole);
  if (exec.dry) return;
  if (a.dtype == Dtype::kF64) return reference::grouped_gemm(a, bounds, b, out, write);
  const Product product{CADRE_SIMD_SELECT(exec.isa, kGemmTable),
                        a.as<float>(),
                        a.row_stride,
                        bounds,
                        b.packed ? b.values.as<float>() : nullptr,
                        b.values,
                        b.groups,
                        b.k,
                        b.n,
                        out.as<float>(),
                        out.row_stride,
                        write == Write::kAccumulate};
  const int64_t total = product.total_cost();
  if (total == 0) return;
  const size_t scratch_bytes = static_cast<size_t>(product.table.multiply_scratch(b.k)) * sizeof(float);
  exec.threads.run([&](int worker) {
    product.run_share(Share(total, worker, exec.threads.size()),
                      static_cast<float*>(exec.threads.scratch(worker, scratch_bytes)));
  });
}

void grouped_weight_gradient(const Exec& exec, TensorView dy, TensorView x, TensorView offsets, TensorView dw,
                             Write write) {
  constexpr std::string_view kOp = "grouped_weight_gradient";
  check_types(kOp, {dy.dtype, x.dtype, dw.dtype});
  const bool grouped = dw.shape.rank() == 3;
  if ((!grouped && dw.shape.rank() != 2) || dw.shape[-2] != dy.cols() || dw.cols() != x.cols() ||
      dy.rows() != x.rows()) {
    fail(kOp, fmt::format("dy {}, x {}, dw {}; wanted [rows, r], [rows, c], [groups, r, c]", dy.shape.to_string(),
                          x.shape.to_string(), dw.shape.to_string()));
  }
  const int64_t groups = grouped ? dw.shape[0] : 1;
  std::array<int64_t, 2> whole;
  const int64_t* bounds = row_bounds(kOp, offsets, groups, dy.rows(), whole);
  if (dw.shape.elements() == 0 || exec.dry) return;
  if (dy.dtype == Dtype::kF64) return reference::grouped_weight_gradient(dy, x, bounds, groups, dw, write);
  const WeightGradient product{
      CADRE_SIMD_SELECT(exec.isa, kGemmTable), dy, x, bounds, groups, dy.cols(), dw, write == Write::kAccumulate};
  const size_t scratch_bytes = static_cast<size_t>(product.table.weight_gradient_scratch) * sizeof(float);
  exec.threads.run([&](int worker) {
    product.run_share(worker, exec.threads.size(), static_cast<float*>(exec.threads.scratch(worker, scratch_bytes)));
  });
}

}  // namespace cadre::kernels
