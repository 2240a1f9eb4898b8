#include "kernels/gemm.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/reference/gemm.h"
#include "kernels/share.h"

namespace cadre::kernels {
namespace {

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

// Where each group's rows begin and end; without offsets, one group has all rows.
class RowBounds {
 public:
  RowBounds(TensorView offsets, int64_t rows) : offsets_(offsets ? offsets.as<int64_t>() : nullptr), whole_{0, rows} {}
  const int64_t* data() const { return offsets_ != nullptr ? offsets_ : whole_.data(); }
  int64_t begin(int64_t group) const { return data()[group]; }
  int64_t rows(int64_t group) const { return data()[group + 1] - data()[group]; }

 private:
  const int64_t* offsets_;
  std::array<int64_t, 2> whole_;
};

void check_bounds(std::string_view op, TensorView offsets, int64_t groups, int64_t rows) {
  if (!offsets) {
    if (groups != 1) fail(op, fmt::format("no offsets for {} groups; only one group may go without", groups));
    return;
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
}

// Fetching a panel costs about as much as multiplying this many rows with it.
constexpr int64_t kPanelCost = 6;

// The serial pieces of one part of a product; costs are in multiply-adds of a panel's columns.
class Product {
 public:
  Product(const cpu::GemmTable& table, const GemmPart& part)
      : table_(table),
        part_(part),
        bounds_(part.offsets, part.a.rows()),
        panels_(ceil_div(part.b.n, table.panel_width)) {}

  int64_t scratch_floats() const { return table_.multiply_scratch(part_.b.k); }

  int64_t cost() const {
    int64_t steps = 0;
    for (int64_t group = 0; group < part_.b.groups; ++group) {
      steps += bounds_.rows(group) + kPanelCost * blocks(bounds_.rows(group));
    }
    return steps * panels_ * step_cost();
  }

  void run_share(Share& share, float* scratch) const {
    for (int64_t group = 0; group < part_.b.groups && !share.done(); ++group) {
      const int64_t rows = bounds_.rows(group), count = blocks(rows);
      for (int64_t block = 0; block < count; ++block) {
        const int64_t begin = rows * block / count;
        const int64_t height = rows * (block + 1) / count - begin;
        const Range panels = share.take(panels_, (height + kPanelCost) * step_cost());
        if (panels.begin < panels.end) multiply(group, bounds_.begin(group) + begin, height, panels, scratch);
      }
    }
  }

 private:
  int64_t blocks(int64_t rows) const { return ceil_div(rows, table_.row_block(part_.b.k)); }
  int64_t step_cost() const { return std::max<int64_t>(part_.b.k, 1); }

  void multiply(int64_t group, int64_t row, int64_t rows, Range panels, float* scratch) const {
    const RightOperand& b = part_.b;
    cpu::MultiplyArguments arguments{};
    arguments.a = part_.a.as<float>() + row * part_.a.row_stride;
    arguments.a_stride = part_.a.row_stride;
    arguments.rows = rows;
    arguments.k = b.k;
    if (b.packed) {
      arguments.panels = b.values.as<float>() + group * panels_ * b.k * table_.panel_width;
    } else {
      arguments.matrix = b.values.as<float>() + group * b.k * b.values.row_stride;
      arguments.matrix_stride = b.values.row_stride;
    }
    arguments.panel_begin = panels.begin;
    arguments.panel_end = panels.end;
    arguments.n = b.n;
    arguments.out = part_.out.as<float>() + row * part_.out.row_stride;
    arguments.out_stride = part_.out.row_stride;
    arguments.accumulate = part_.write == Write::kAccumulate;
    arguments.scratch = scratch;
    table_.multiply(arguments);
  }

  const cpu::GemmTable& table_;
  const GemmPart& part_;
  RowBounds bounds_;
  int64_t panels_;
};

int64_t groups_of(TensorView weights) { return weights.shape.rank() == 3 ? weights.shape[0] : 1; }

class WeightGradient {
 public:
  WeightGradient(const cpu::GemmTable& table, const WeightGradientPart& part)
      : table_(table),
        part_(part),
        bounds_(part.offsets, part.dy.rows()),
        groups_(groups_of(part.dw)),
        height_(part.dy.cols()),
        columns_(part.x.cols()) {}

  int64_t scratch_floats() const { return table_.weight_gradient_scratch; }

  int64_t cost() const {
    const int64_t rows = groups_ == 0 ? 0 : bounds_.data()[groups_] - bounds_.data()[0];
    return (rows + kPanelCost * groups_) * height_ * columns_;
  }

  void run_share(Share& share, float* scratch) const {
    if (groups_ == 0 || height_ == 0 || columns_ == 0) return;
    const int64_t parts = column_parts(share.workers_of(cost()));
    for (int64_t group = 0; group < groups_ && !share.done(); ++group) {
      const int64_t rows = bounds_.rows(group);
      for (int part = 0; part < parts; ++part) {
        const Range columns = split(columns_, part, static_cast<int>(parts), table_.panel_width);
        const Range strip = share.take(height_, (rows + kPanelCost) * (columns.end - columns.begin));
        if (strip.begin < strip.end) run_piece(group, rows, strip, columns, scratch);
      }
    }
  }

 private:
  // A group's columns are cut as well once many workers share it: square pieces need the least packing.
  int64_t column_parts(double workers) const {
    const double sharers = workers / static_cast<double>(groups_);
    const double parts = std::round(std::sqrt(sharers * static_cast<double>(columns_) / static_cast<double>(height_)));
    const int64_t panels = ceil_div(columns_, table_.panel_width);
    return std::clamp<int64_t>(sharers < 4 ? 1 : static_cast<int64_t>(parts), 1, panels);
  }

  void run_piece(int64_t group, int64_t rows, Range strip, Range columns, float* scratch) const {
    const auto& [dy, x, offsets, dw, write] = part_;
    float* const target = dw.as<float>() + group * height_ * dw.row_stride;
    if (rows == 0) {
      if (write == Write::kAccumulate) return;
      for (int64_t i = strip.begin; i < strip.end; ++i) {
        std::fill(target + i * dw.row_stride + columns.begin, target + i * dw.row_stride + columns.end, 0.0f);
      }
      return;
    }
    const int64_t first = bounds_.begin(group);
    table_.weight_gradient({dy.as<float>() + first * dy.row_stride, dy.row_stride, x.as<float>() + first * x.row_stride,
                            x.row_stride, rows, strip.begin, strip.end, columns.begin, columns.end, target,
                            dw.row_stride, write == Write::kAccumulate, scratch});
  }

  const cpu::GemmTable& table_;
  const WeightGradientPart& part_;
  RowBounds bounds_;
  int64_t groups_;
  int64_t height_;  // rows of one group's dw
  int64_t columns_;
};

// All parts in one threaded run, as pieces of the kind Work.
template <class Work, class Part>
void share_out(const Exec& exec, std::span<const Part> parts) {
  const cpu::GemmTable& table = CADRE_SIMD_SELECT(exec.isa, kGemmTable);
  int64_t total = 0, scratch_floats = 0;
  for (const Part& part : parts) {
    const Work work(table, part);
    total += work.cost();
    scratch_floats = std::max(scratch_floats, work.scratch_floats());
  }
  if (total == 0) return;
  exec.threads.run([&](int worker) {
    auto* const scratch =
        static_cast<float*>(exec.threads.scratch(worker, static_cast<size_t>(scratch_floats) * sizeof(float)));
    Share share(total, worker, exec.threads.size());
    for (const Part& part : parts) Work(table, part).run_share(share, scratch);
  });
}

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

void check(const Exec& exec, const GemmPart& part) {
  constexpr std::string_view kOp = "grouped_gemm";
  const auto& [a, offsets, b, out, write] = part;
  check_types(kOp, {a.dtype, b.values.dtype, out.dtype});
  const int64_t needed = b.packed ? packed_elements(exec, a.dtype, b) : b.groups * b.k * b.n;
  if (a.cols() != b.k || out.cols() != b.n || a.rows() != out.rows() || b.values.shape.elements() < needed) {
    fail(kOp, fmt::format("a {}, right operand [{}, {}, {}] in {} elements, out {}", a.shape.to_string(), b.groups, b.k,
                          b.n, b.values.shape.elements(), out.shape.to_string()));
  }
  check_bounds(kOp, offsets, b.groups, a.rows());
}

void check(const WeightGradientPart& part) {
  constexpr std::string_view kOp = "grouped_weight_gradient";
  const auto& [dy, x, offsets, dw, write] = part;
  check_types(kOp, {dy.dtype, x.dtype, dw.dtype});
  if ((dw.shape.rank() != 3 && dw.shape.rank() != 2) || dw.shape[-2] != dy.cols() || dw.cols() != x.cols() ||
      dy.rows() != x.rows()) {
    fail(kOp, fmt::format("dy {}, x {}, dw {}; wanted [rows, r], [rows, c], [groups, r, c]", dy.shape.to_string(),
                          x.shape.to_string(), dw.shape.to_string()));
  }
  check_bounds(kOp, offsets, groups_of(dw), dy.rows());
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

void grouped_gemm(const Exec& exec, std::span<const GemmPart> parts) {
  for (const GemmPart& part : parts) {
    check(exec, part);
    check_types("grouped_gemm", {parts[0].a.dtype, part.a.dtype});
  }
  if (parts.empty() || exec.dry) return;
  if (parts[0].a.dtype == Dtype::kF32) return share_out<Product>(exec, parts);
  for (const GemmPart& part : parts) {
    reference::grouped_gemm(part.a, RowBounds(part.offsets, part.a.rows()).data(), part.b, part.out, part.write);
  }
}

void grouped_gemm(const Exec& exec, TensorView a, TensorView offsets, const RightOperand& b, TensorView out,
                  Write write) {
  const GemmPart part{a, offsets, b, out, write};
  grouped_gemm(exec, {&part, 1});
}

void grouped_weight_gradient(const Exec& exec, std::span<const WeightGradientPart> parts) {
  for (const WeightGradientPart& part : parts) {
    check(part);
    check_types("grouped_weight_gradient", {parts[0].dy.dtype, part.dy.dtype});
  }
  if (parts.empty() || exec.dry) return;
  if (parts[0].dy.dtype == Dtype::kF32) return share_out<WeightGradient>(exec, parts);
  for (const auto& [dy, x, offsets, dw, write] : parts) {
    if (dw.shape.elements() == 0) continue;
    reference::grouped_weight_gradient(dy, x, RowBounds(offsets, dy.rows()).data(), groups_of(dw), dw, write);
  }
}

void grouped_weight_gradient(const Exec& exec, TensorView dy, TensorView x, TensorView offsets, TensorView dw,
                             Write write) {
  const WeightGradientPart part{dy, x, offsets, dw, write};
  grouped_weight_gradient(exec, {&part, 1});
}

}  // namespace cadre::kernels
