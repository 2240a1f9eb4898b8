#pragma once
// Expert and MLP activations, fused over the hidden layer h.
//   kSwiGlu: h [rows, 2 f] = gate | up, out = silu(gate) * up   (Shazeer, "GLU variants improve Transformer", 2020)
//   kGelu:   h [rows, f], out = gelu(h), tanh approximation     (Hendrycks and Gimpel, 2016)

#include <span>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

enum class Activation { kSwiGlu, kGelu };

// Columns of h for f of out.
constexpr int64_t hidden_columns(Activation kind, int64_t f) { return kind == Activation::kSwiGlu ? 2 * f : f; }

// Rows [begin, end): i64 of one element each, such as views into offsets. Empty: from the first, to the last.
struct RowRange {
  TensorView begin{};
  TensorView end{};
};

// Rows of one kind and width; views may be strided.
struct ActivationPart {
  Activation kind;
  RowRange rows;
  TensorView h;
  TensorView out;
};
struct ActivationGradientPart {
  Activation kind;
  RowRange rows;
  TensorView h;
  TensorView dout;
  TensorView dh;  // may be h
};

// All parts in one threaded run.
void activation_forward(const Exec& exec, std::span<const ActivationPart> parts);
void activation_backward(const Exec& exec, std::span<const ActivationGradientPart> parts);

// One part, rows [0, rows_end).
void activation_forward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView out);
void activation_backward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView dout,
                         TensorView dh);

}  // namespace cadre::kernels
