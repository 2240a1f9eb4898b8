#pragma once
// All parameters of a model in two flat tensors (values and gradients), in order of declaration, so that gradients are
// reduced in large buckets and optimizers run over flat ranges.

#include <memory>
#include <vector>

#include "autograd/parameter.h"

namespace cadre::autograd {

class ParameterStore {
 public:
  // Declares a parameter; its address is stable. `segments` empty: one segment with the parameter's own name and shape.
  Parameter& declare(std::string name, Shape shape, double init_std, bool decays, std::vector<Segment> segments = {});

  // Allocates the flat storage; parameters start at multiples of 64 bytes. Initialises each segment from (seed, its
  // name), so that values depend neither on declaration order nor on a layout. `gradients` false: inference.
  void materialise(const Context& context, uint64_t seed, bool gradients = true);

  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }
  Parameter* find(const std::string& name) const;
  const Tensor& values() const { return values_; }
  const Tensor& gradients() const { return gradients_; }
  int64_t elements() const { return elements_; }  // of the flat storage, padding included
  int64_t parameter_count() const;                // without padding

  // Marks every gradient as empty; the next backward overwrites.
  void clear_gradients();
  // Zeroes the gradients that no backward reached.
  void zero_untouched_gradients();
  // Values changed: packed forms are stale.
  void touch();

 private:
  std::vector<std::unique_ptr<Parameter>> parameters_;
  Tensor values_, gradients_;
  int64_t elements_ = 0;
};

}  // namespace cadre::autograd
