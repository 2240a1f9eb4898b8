#pragma once
// What a tape keeps of one op, and the backward call made on it.

#include <memory>
#include <vector>

#include "autograd/op.h"

namespace cadre::autograd {

struct Record {
  std::unique_ptr<Op> op;
  bool splits = true;  // whether parameters' gradients may be left for later, see WholeBackwardScope
  std::vector<std::shared_ptr<Node>> in_nodes;  // null: absent optional input
  std::vector<std::shared_ptr<Node>> out_nodes;
  std::vector<std::shared_ptr<Value>> in_values;   // null: not needed by the backward
  std::vector<std::shared_ptr<Value>> out_values;  // likewise
  std::vector<std::weak_ptr<Value>> out_weak;      // to put recomputed values back

  // Whether a gradient arrived.
  bool reached() const;
  // Whether every trainable input is a Parameter, so that no other record waits for its gradient.
  bool can_defer_parameters() const;
};

class BackwardCall final : public Backward {
 public:
  // `may_overwrite`: nothing will read the inputs' values after this backward.
  BackwardCall(const Context& context, Record& record, bool may_overwrite)
      : context_(context), record_(record), may_overwrite_(may_overwrite) {}

  // Whether this part of the backward has anything to write.
  bool wants_any(bool parameters) const;
  // Adds what had to go into temporaries.
  void finish();

  const Context& context() const override { return context_; }
  TensorView in(size_t i) const override;
  TensorView out(size_t i) const override;
  Parameter* parameter(size_t i) const override;
  TensorView gradient(size_t output) const override;
  bool wants(size_t input) const override;
  Target target(size_t input) override;
  TensorView target_over_input(size_t input) override;
  Tensor gradient_owner(size_t output) const override { return record_.out_nodes[output]->gradient; }
  void pass(size_t input, size_t output) override;
  void give(size_t input, Tensor gradient) override;
  TensorView writable_gradient(size_t output) override;

 private:
  struct Pending {
    Tensor temporary;
    Tensor into;
  };
  Target accumulate_into(Tensor existing, bool op_accumulates);
  void make_exclusive(Tensor& gradient);

  const Context& context_;
  Record& record_;
  bool may_overwrite_;
  std::vector<Pending> pending_;
};

}  // namespace cadre::autograd
