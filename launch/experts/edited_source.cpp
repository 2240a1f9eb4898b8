#include "launch/experts/edited_source.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/rng.h"
#include "launch/experts/edited_scalars.h"

namespace cadre::launch {
namespace {

// Takes "NUMBER." off the front; -1: there is none.
int64_t take_number(std::string_view& text) {
  int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto length = static_cast<size_t>(end - text.data());
  if (error != std::errc() || length >= text.size() || text[length] != '.') return -1;
  text.remove_prefix(length + 1);
  return number;
}

bool take(std::string_view& text, std::string_view start) {
  if (!text.starts_with(start)) return false;
  text.remove_prefix(start.size());
  return true;
}

std::vector<double> to_doubles(const Tensor& tensor) {
  std::vector<double> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = tensor.dtype() == Dtype::kF64 ? tensor.data<double>()[i] : tensor.data<float>()[i];
  return values;
}

void store(const std::vector<double>& values, const Tensor& out) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (out.dtype() == Dtype::kF64) {
      out.data<double>()[i] = values[i];
    } else {
      out.data<float>()[i] = static_cast<float>(values[i]);
    }
  }
}

Tensor read_whole(StateSource& source, const std::string& name) {
  const std::shared_ptr<Allocator> allocator = make_host_allocator();
  const Tensor tensor = Tensor::empty(*allocator, source.dtype_of(name), source.shape_of(name));
  source.read(name, tensor);
  return tensor;
}

void add_noise(double* values, int64_t count, double relative, uint64_t seed, const std::string& name) {
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) squares += values[i] * values[i];
  const double deviation = relative * std::sqrt(squares / static_cast<double>(count));
  Rng rng(seed, RngPurpose::kInit, stream_of("noise of " + name));
  for (int64_t i = 0; i < count; ++i) values[i] += deviation * rng.normal();
}

// Where in a matrix the hidden units stand: w2 [hidden, units], others [units, hidden].
bool units_are_columns(const std::string& tensor) { return tensor == "w2"; }

}  // namespace

EditedSource::EditedSource(StateSource& base, model::ExpertLayout before, model::ExpertLayout after, ExpertEdit edit,
                           uint64_t seed)
    : base_(base), before_(std::move(before)), after_(std::move(after)), edit_(std::move(edit)), seed_(seed) {
  scalars_ = edited_scalars(base.scalars(), before_, after_, edit_);
}

std::optional<EditedSource::Parts> EditedSource::take_apart(const std::string& name) {
  Parts parts;
  std::string_view rest = name;
  for (const char* root : {"/model/", "/optimizer/"}) {
    if (take(rest, root)) parts.root = root;
  }
  if (parts.root.empty() || !take(rest, "layers.")) return std::nullopt;
  parts.layer = take_number(rest);
  if (parts.layer < 0 || !take(rest, "moe.")) return std::nullopt;
  if (take(rest, "experts.")) {
    parts.id = take_number(rest);
    if (parts.id < 0) return std::nullopt;
  } else if (!take(rest, "router.")) {
    return std::nullopt;
  }
  const size_t slash = std::min(rest.find('/'), rest.size());
  parts.tensor = rest.substr(0, slash);
  parts.moment = rest.substr(slash);
  return parts;
}

std::string EditedSource::name_in(const Parts& parts, const ExpertRecipe::Source& source) {
  return parts.root + source.prefix + "." + parts.tensor + parts.moment;
}

const ExpertRecipe* EditedSource::recipe_of(const Parts& parts) const {
  const auto found = edit_.recipes.find({parts.layer, parts.id});
  return parts.id < 0 || found == edit_.recipes.end() ? nullptr : &found->second;
}

// Those of its tensors that have a row for each expert.
bool EditedSource::edits_router(const Parts& parts) const {
  const bool by_expert = parts.tensor == "weight" || parts.tensor == "noise.weight";
  return parts.id < 0 && by_expert && std::any_of(edit_.layers.begin(), edit_.layers.end(), [&](const auto& layer) {
           return layer.layer == parts.layer;
         });
}

bool EditedSource::begins_anew(const std::string& name) const {
  const std::optional<Parts> parts = take_apart(name);
  if (!parts) return base_.begins_anew(name);
  if (parts->id < 0) return !before_.is_moe(parts->layer) || base_.begins_anew(name);
  const ExpertRecipe* recipe = recipe_of(*parts);
  return recipe == nullptr ? base_.begins_anew(name) : recipe->sources.empty();
}

// What isolated experts have is not copied; nor are moments that one of several sources lacks, under another optimizer.
bool EditedSource::has(const std::string& name) const {
  const std::optional<Parts> parts = take_apart(name);
  if (!parts) return base_.has(name);
  if (parts->id < 0) return before_.is_moe(parts->layer) && base_.has(name);
  const ExpertRecipe* const recipe = recipe_of(*parts);
  if (recipe == nullptr) return base_.has(name);
  const bool copied = parts->moment.empty() || parts->moment == "/exp_avg" || parts->moment == "/exp_avg_sq" ||
                      parts->moment == "/momentum";
  return copied && !recipe->sources.empty() &&
         std::all_of(recipe->sources.begin(), recipe->sources.end(), [&](const ExpertRecipe::Source& source) {
           return (source.file ? *source.file : base_).has(name_in(*parts, source));
         });
}

Shape EditedSource::shape_of(const std::string& name) const {
  const std::optional<Parts> parts = take_apart(name);
  if (!parts) return base_.shape_of(name);
  if (edits_router(*parts)) return base_.shape_of(name).with(0, after_.layer(parts->layer).experts());
  const ExpertRecipe* recipe = recipe_of(*parts);
  if (recipe == nullptr || recipe->sources.empty()) return base_.shape_of(name);
  const ExpertRecipe::Source& first = recipe->sources.front();
  const StateSource& from = first.file ? *first.file : base_;
  const Shape whole = from.shape_of("/model/" + first.prefix + "." + parts->tensor);
  const int axis = units_are_columns(parts->tensor) ? whole.rank() - 1 : 0;
  return whole.with(axis, whole[axis] / recipe->parts);
}

void EditedSource::read(const std::string& name, TensorView out) {
  const std::optional<Parts> parts = take_apart(name);
  if (!parts || (!edits_router(*parts) && recipe_of(*parts) == nullptr)) return base_.read(name, out);
  const Tensor tensor = made(name, out.shape, out.dtype);
  if (!(tensor.shape() == shape_of(name)))
    throw CheckpointError(fmt::format("{}: {} would be {}, the model wants {}", where(), name,
                                      shape_of(name).to_string(), out.shape.to_string()));
  const size_t bytes = static_cast<size_t>(out.shape.cols()) * size_of(out.dtype);
  for (int64_t row = 0; row < out.rows(); ++row) {
    std::memcpy(static_cast<char*>(out.data) + static_cast<size_t>(row * out.row_stride) * size_of(out.dtype),
                static_cast<const char*>(tensor.raw()) + static_cast<size_t>(row) * bytes, bytes);
  }
}

void EditedSource::read_flat(const std::string& name, int64_t begin, TensorView out) {
  const std::optional<Parts> parts = take_apart(name);
  if (!parts || (!edits_router(*parts) && recipe_of(*parts) == nullptr)) return base_.read_flat(name, begin, out);
  const Tensor tensor = made(name, shape_of(name), out.dtype);
  const size_t size = size_of(out.dtype);
  std::memcpy(out.data, static_cast<const char*>(tensor.raw()) + static_cast<size_t>(begin) * size,
              static_cast<size_t>(out.shape.elements()) * size);
}

Tensor EditedSource::made(const std::string& name, const Shape& shape, Dtype dtype) {
  const std::shared_ptr<Allocator> allocator = make_host_allocator();
  const Tensor out = Tensor::empty(*allocator, dtype, shape);
  const Parts parts = *take_apart(name);
  if (parts.id < 0) {
    make_router(parts, name, out);
  } else {
    make_expert(parts, *recipe_of(parts), name, out);
  }
  return out;
}

// Moments are not scaled with the outputs: the step of AdamW depends on their ratio alone.
void EditedSource::make_expert(const Parts& parts, const ExpertRecipe& recipe, const std::string& name,
                               const Tensor& out) {
  std::vector<double> sum;
  for (const ExpertRecipe::Source& source : recipe.sources) {
    StateSource& from = source.file ? *source.file : base_;
    const std::vector<double> values = to_doubles(read_whole(from, name_in(parts, source)));
    sum.resize(values.size());
    for (size_t i = 0; i < values.size(); ++i) sum[i] += source.weight * values[i];
  }
  const auto count = static_cast<size_t>(out.elements());
  sum.resize(count * static_cast<size_t>(recipe.parts));
  std::vector<double> result(count);
  if (units_are_columns(parts.tensor)) {
    const auto columns = static_cast<size_t>(out.shape().cols());
    for (size_t i = 0; i < count; ++i) {
      const size_t row = i / columns, whole = columns * static_cast<size_t>(recipe.parts);
      result[i] = sum[row * whole + static_cast<size_t>(recipe.part) * columns + i % columns];
    }
  } else {
    std::copy_n(sum.begin() + static_cast<ptrdiff_t>(count) * recipe.part, count, result.begin());
  }
  if (parts.moment.empty()) {
    for (double& value : result) value *= units_are_columns(parts.tensor) ? recipe.output_scale : 1;
    if (recipe.noise > 0) add_noise(result.data(), out.elements(), recipe.noise, seed_, name);
  }
  store(result, out);
}

void EditedSource::make_router(const Parts& parts, const std::string& name, const Tensor& out) {
  const Tensor old = read_whole(base_, name);
  const int64_t columns = out.shape().cols();
  const model::LayerExperts &before = before_.layer(parts.layer), &after = after_.layer(parts.layer);
  std::vector<double> rows(static_cast<size_t>(out.elements()));
  const std::vector<double> olds = to_doubles(old);
  for (int64_t place = 0; place < after.experts(); ++place) {
    const int64_t id = after.id_of(place), there = before.place_of(id);
    double* const row = rows.data() + place * columns;
    if (there >= 0) {
      std::copy_n(olds.begin() + there * columns, columns, row);
    } else {
      add_row(parts, edit_.recipes.at({parts.layer, id}), old, id, row, columns);
    }
  }
  store(rows, out);
}

void EditedSource::add_row(const Parts& parts, const ExpertRecipe& recipe, const Tensor& old, int64_t id, double* row,
                           int64_t columns) {
  const bool fresh_moment = !parts.moment.empty() && recipe.sources.empty();
  for (const ExpertRecipe::Row& source : recipe.rows) {
    if (fresh_moment) break;
    if (source.file) {
      const std::string there = parts.root + "router." + parts.tensor + parts.moment;
      if (!source.file->has(there)) continue;
      const std::vector<double> values = to_doubles(read_whole(*source.file, there));
      for (int64_t i = 0; i < columns; ++i) row[i] += source.weight * values.at(static_cast<size_t>(i));
      continue;
    }
    const std::vector<double> olds = to_doubles(old);
    for (int64_t i = 0; i < columns; ++i)
      row[i] += source.weight * olds[static_cast<size_t>(source.place * columns + i)];
  }
  if (!parts.moment.empty() || recipe.row_noise == 0) return;
  add_noise(row, columns, recipe.row_noise, seed_,
            fmt::format("layers.{}.experts.{}.router.{}", parts.layer, id, parts.tensor));
}

}  // namespace cadre::launch
