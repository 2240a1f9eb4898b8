#pragma once
// A training state as it is after an edit of its experts: tensors of others pass through, those of experts that are new
// are made when they are asked for. Depends on nothing but the state, the edit and the seed.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "launch/checkpoint/source.h"
#include "launch/experts/operation.h"

namespace cadre::launch {

class EditedSource final : public StateSource {
 public:
  // `base` must outlive it. Layouts: before and after `edit`.
  EditedSource(StateSource& base, model::ExpertLayout before, model::ExpertLayout after, ExpertEdit edit,
               uint64_t seed);

  std::string where() const override { return base_.where(); }
  const nlohmann::json& scalars() const override { return scalars_; }
  bool has(const std::string& name) const override;
  bool begins_anew(const std::string& name) const override;
  Shape shape_of(const std::string& name) const override;
  Dtype dtype_of(const std::string& name) const override { return base_.dtype_of(name); }
  void read(const std::string& name, TensorView out) override;
  void read_flat(const std::string& name, int64_t begin, TensorView out) override;

 private:
  // A tensor's name taken apart: "/optimizer/layers.3.moe.experts.17.w1/exp_avg".
  struct Parts {
    std::string root;    // "/model/", "/optimizer/"
    int64_t layer = -1;  // with experts
    int64_t id = -1;     // -1: the router's
    std::string tensor;  // "w1"; of the router "weight"
    std::string moment;  // "/exp_avg", or nothing
  };
  // Empty where a tensor is nothing of an expert or router.
  static std::optional<Parts> take_apart(const std::string& name);
  static std::string name_in(const Parts& parts, const ExpertRecipe::Source& source);  // that it is made of
  const ExpertRecipe* recipe_of(const Parts& parts) const;
  bool edits_router(const Parts& parts) const;
  Tensor made(const std::string& name, const Shape& shape, Dtype dtype);
  void make_expert(const Parts& parts, const ExpertRecipe& recipe, const std::string& name, const Tensor& out);
  void make_router(const Parts& parts, const std::string& name, const Tensor& out);
  void add_row(const Parts& parts, const ExpertRecipe& recipe, const Tensor& old, int64_t id, double* row,
               int64_t columns);

  StateSource& base_;
  model::ExpertLayout before_, after_;
  ExpertEdit edit_;
  uint64_t seed_;
  nlohmann::json scalars_;
};

}  // namespace cadre::launch
