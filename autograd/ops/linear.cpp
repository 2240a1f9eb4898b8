#include "autograd/ops/linear.h"

#include "kernels/gemm.h"

namespace cadre::autograd {
namespace {

constexpr size_t kX = 0, kOffsets = 2, kCells = 3;

int64_t groups_of(const Shape& weight) { return weight.rank() == 3 ? weight[0] : 1; }

// The weight as an operand from the parameter's cache, or for this call when it is no parameter.
kernels::RightOperand operand_of(const Context& context, Parameter* parameter, TensorView weight,
                                 kernels::Operand operand, Tensor& storage) {
  if (parameter != nullptr) return parameter->operand(context, operand, weight);
  const TensorView grouped = as_groups(weight);
  if (operand == kernels::Operand::kAsStored) return kernels::as_stored(grouped);
  storage =
      Tensor::empty(context.allocator, weight.dtype, Shape{kernels::packed_elements(context.exec, grouped, operand)});
  return kernels::pack(context.exec, grouped, operand, storage);
}

// Offsets of groups [first, first + count).
TensorView part_of(TensorView offsets, int64_t first, int64_t count) {
  return offsets ? offsets.columns(first, first + count + 1) : offsets;
}

TensorView first_columns(TensorView rows, int64_t count) { return rows.columns(0, count); }

}  // namespace

std::vector<TensorSpec> GroupedLinear::infer(std::span<const TensorSpec> in) const {
  const size_t others = stacks_ > 1 || lanes_ > 1 ? 4 : 3;
  require(stacks_ > 0 && in.size() == others + stacks_ - 1 && in[kX].shape.rank() == 2, in,
          "x [rows, in], weight [.., out, in], offsets, of several lanes or stacks: cells, weights");
  int64_t groups = 0, widest_in = 0, widest_out = 0;
  for (size_t stack = 0; stack < stacks_; ++stack) {
    const TensorSpec& weight = in[weight_input(stack)];
    require(weight.shape.rank() >= (stacks_ > 1 ? 3 : 2) && weight.dtype == in[kX].dtype, in,
            "x [rows, in] and weight [.., out, in] of one type");
    groups += groups_of(weight.shape);
    widest_in = std::max(widest_in, weight.shape[-1]);
    widest_out = std::max(widest_out, weight.shape[-2]);
  }
  require(in[kX].shape[1] == widest_in, in, "x [rows, in] and weight [.., out, in]");
  const bool has_offsets = in[kOffsets].shape.rank() == 1;
  require(has_offsets ? in[kOffsets].shape[0] == groups + 1 : groups == 1, in, "offsets [groups + 1]");
  require(lanes_ == 1 || in[kCells].shape == Shape{groups * lanes_ + 1}, in, "offsets [groups * lanes + 1]");
  return {{in[kX].dtype, Shape{in[kX].shape[0], widest_out}}};
}

void GroupedLinear::forward(const Forward& f) const {
  std::vector<Tensor> storage(stacks_);
  std::vector<kernels::GemmPart> parts;
  int64_t first = 0;
  for (size_t stack = 0; stack < stacks_; ++stack) {
    const size_t i = weight_input(stack);
    const kernels::RightOperand right =
        operand_of(f.context, f.parameters[i], f.in[i], kernels::Operand::kTransposed, storage[stack]);
    parts.push_back({first_columns(f.in[kX], right.k), part_of(f.in[kOffsets], first, right.groups), right,
                     first_columns(f.out[0], right.n)});
    first += right.groups;
  }
  kernels::grouped_gemm(f.context.exec, parts);
}

void GroupedLinear::backward_inputs(Backward& b) const {
  if (!b.wants(kX)) return;
  const Backward::Target dx = b.target(kX);
  std::vector<Tensor> storage(stacks_);
  std::vector<kernels::GemmPart> parts;
  int64_t first = 0;
  for (size_t stack = 0; stack < stacks_; ++stack) {
    const size_t i = weight_input(stack);
    const kernels::RightOperand right =
        operand_of(b.context(), b.parameter(i), b.in(i), kernels::Operand::kAsStored, storage[stack]);
    parts.push_back({first_columns(b.gradient(0), right.k), part_of(b.in(kOffsets), first, right.groups), right,
                     first_columns(dx.view, right.n), dx.write});
    first += right.groups;
  }
  kernels::grouped_gemm(b.context().exec, parts);
}

void GroupedLinear::backward_parameters(Backward& b) const {
  std::vector<kernels::WeightGradientPart> parts;
  int64_t first = 0;
  for (size_t stack = 0; stack < stacks_; ++stack) {
    const size_t i = weight_input(stack);
    const Shape weight = b.in(i).shape;
    const int64_t groups = groups_of(weight);
    if (b.wants(i)) {
      const Backward::Target dw = b.target(i);
      const TensorView by_group = as_groups(dw.view);
      const bool apart = lanes_ > 1 && by_group.shape[0] == groups * lanes_;
      const TensorView offsets =
          apart ? part_of(b.in(kCells), first * lanes_, groups * lanes_) : part_of(b.in(kOffsets), first, groups);
      parts.push_back(
          {first_columns(b.gradient(0), weight[-2]), first_columns(b.in(kX), weight[-1]), offsets, by_group, dw.write});
    }
    first += groups;
  }
  kernels::grouped_weight_gradient(b.context().exec, parts);
}

// With several stacks, rows are taken to be spread evenly over groups.
Cost GroupedLinear::cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const {
  const auto rows = static_cast<double>(in[kX].shape[0]);
  double groups = 0, multiplied = 0, passed = 0;  // elements of a group's matrix; of its rows of x and y
  for (size_t stack = 0; stack < stacks_; ++stack) {
    const Shape& weight = in[weight_input(stack)].shape;
    const auto count = static_cast<double>(groups_of(weight));
    groups += count;
    multiplied += count * static_cast<double>(weight[-2]) * static_cast<double>(weight[-1]);
    passed += count * static_cast<double>(weight[-2] + weight[-1]);
  }
  Cost cost = Op::cost(in, out);
  cost.flops = 2.0 * rows * multiplied / groups;
  const auto whole = static_cast<double>(in[kX].shape[1] + out[0].shape[1]);
  cost.bytes -= rows * (whole - passed / groups) * static_cast<double>(size_of(in[kX].dtype));
  return cost;
}

}  // namespace cadre::autograd
