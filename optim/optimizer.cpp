#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "kernels/elementwise.h"
#include "model/transformer.h"
#include "optim/schedule.h"

namespace cadre::optim {
namespace {

// One rank has all.
class LocalNorm final : public NormScope {
 public:
  explicit LocalNorm(const std::vector<SegmentState>& segments) {
    for (const SegmentState& segment : segments) {
      index_[segment.name] = all_.size();
      all_.push_back({segment.name, segment.layer, segment.expert});
    }
  }
  const std::vector<NormSegment>& all() const override { return all_; }
  size_t index_of(const std::string& name) const override { return index_.at(name); }
  std::vector<double> squares(const std::vector<SegmentState>&, const std::vector<std::vector<double>>& pieces,
                              const char*) override {
    std::vector<double> squares;
    for (std::vector<double> of_segment : pieces) squares.push_back(kernels::tree_sum(of_segment));
    return squares;
  }

 private:
  std::vector<NormSegment> all_;
  std::unordered_map<std::string, size_t> index_;
};

// Runs of elements whose change is measured, of what is kept of a segment.
int64_t change_runs(const SegmentState& segment) {
  return (segment.kept.count() + kernels::kChangeRun - 1) / kernels::kChangeRun;
}

}  // namespace

Optimizer::Optimizer(const autograd::Context& context, autograd::ParameterStore& store, OptimizerSettings settings,
                     const OptimizerShard& shard, ExpertRules rules, std::optional<ExpertIsolation> isolation)
    : context_(context),
      store_(store),
      settings_(settings),
      rules_(std::move(rules)),
      norm_(shard.norm),
      zero_(shard.zero) {
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      SegmentState state;
      state.name = segment.name;
      state.shape = segment.shape;
      state.offset = parameter->offset + segment.offset;
      state.expert = segment.expert;
      if (segment.expert >= 0) state.layer = model::layer_of(segment.name);
      state.kind = kind_of(state.layer, state.expert);
      state.weight_decay = parameter->decays ? settings.weight_decay : 0;
      state.owned = {0, state.count()};
      if (!shard.owned.empty()) state.owned = shard.owned.at(segments_.size());
      segments_.push_back(std::move(state));
    }
  }
  place_state();
  if (isolation) {
    isolated_.emplace(context_, std::move(*isolation),
                      IsolatedUpdates::Storage{store_.values(), gradients(), moments(), zero_ == 2}, segments_);
  }
  if (norm_ == nullptr) {
    own_norm_ = std::make_unique<LocalNorm>(segments_);
    norm_ = own_norm_.get();
  }
  std::map<std::pair<int, int>, int> groups;
  for (const NormSegment& segment : norm_->all()) {
    const std::pair<int, int> expert{segment.layer, segment.expert};
    const bool none = segment.expert < 0;
    const auto place = none ? groups.end() : groups.try_emplace(expert, static_cast<int>(groups.size())).first;
    groups_.push_back(none ? -1 : place->second);
  }
  experts_.resize(groups.size());
  for (const auto& [expert, group] : groups) experts_[static_cast<size_t>(group)] = expert;
  for (const NormSegment& segment : norm_->all()) {
    const bool expert = isolated_ && segment.expert >= 0;
    isolated_places_.push_back(expert ? isolated_->isolation().index_of(segment.layer, segment.expert) : -1);
    factors_.push_back(rules_.trains(segment.layer, segment.expert) ? 1 : 0);
  }
}

// Whole and of one kind: laid out as the parameters. Else what is kept of each segment after the other, AdamW's first,
// so that second moments are no longer than those.
void Optimizer::place_state() {
  constexpr int64_t kAlignment = 16;  // elements
  const bool as_parameters = zero_ == 0 && !(uses(OptimizerKind::kAdamW) && uses(OptimizerKind::kSgd));
  int64_t elements = 0, second = 0;
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    for (SegmentState& segment : segments_) {
      if (segment.kind != kind) continue;
      segment.kept = zero_ > 0 ? segment.owned : parallel::ElementRange{0, segment.count()};
      segment.state_offset = as_parameters ? segment.offset : elements;
      elements += (segment.kept.count() + kAlignment - 1) / kAlignment * kAlignment;
    }
    if (kind == OptimizerKind::kAdamW) second = elements;
  }
  if (as_parameters) elements = second = store_.elements();
  const auto zeros = [&](int64_t count) { return Tensor::zeros(context_.allocator, context_.dtype, Shape{count}); };
  first_moment_ = zeros(elements);
  if (uses(OptimizerKind::kAdamW)) second_moment_ = zeros(second);
  if (zero_ == 2) shard_gradients_ = zeros(elements);
}

int64_t Optimizer::gradient_offset(const SegmentState& segment) const {
  return shard_gradients_ ? segment.state_offset : segment.offset + segment.kept.begin;
}

kernels::StatePlace Optimizer::place_of(const SegmentState& segment) const {
  return {segment.offset + segment.kept.begin, gradient_offset(segment), segment.state_offset, segment.kept.count()};
}

double Optimizer::learning_rate(int64_t step, int64_t total_steps) const {
  return settings_.lr * schedule_factor(settings_.schedule, step, total_steps);
}

std::vector<MomentTensor> Optimizer::moments() const {
  std::vector<MomentTensor> all;
  if (uses(OptimizerKind::kAdamW)) {
    all = {{"exp_avg", first_moment_, OptimizerKind::kAdamW}, {"exp_avg_sq", second_moment_, OptimizerKind::kAdamW}};
  }
  if (uses(OptimizerKind::kSgd)) all.push_back({"momentum", first_moment_, OptimizerKind::kSgd});
  return all;
}

std::vector<MomentTensor> Optimizer::state_tensors() const {
  std::vector<MomentTensor> all = moments();
  if (!isolated_) return all;
  for (MomentTensor& tensor : isolated_->tensors()) all.push_back(std::move(tensor));
  return all;
}

std::vector<std::vector<double>> Optimizer::owned_squares() const {
  std::vector<kernels::FlatRange> ranges;
  for (const SegmentState& segment : segments_) {
    const int64_t first = gradient_offset(segment) - segment.kept.begin;
    for (int64_t begin = segment.owned.begin; begin < segment.owned.end; begin += parallel::kPieceElements) {
      ranges.push_back({first + begin, std::min(parallel::kPieceElements, segment.owned.end - begin)});
    }
  }
  std::vector<double> squares(ranges.size());
  kernels::squared_norms(context_.exec, ranges, gradients(), squares);
  std::vector<std::vector<double>> pieces;
  auto next = squares.begin();
  for (const SegmentState& segment : segments_) {
    const auto end = next + parallel::pieces_of(segment.owned.count());
    pieces.emplace_back(next, end);
    next = end;
  }
  return pieces;
}

void Optimizer::divide_by_loss_scales(const ExpertRules::ByExpert& rules) {
  for (const SegmentState& segment : segments_) {
    if (segment.expert < 0) continue;
    const auto found = rules.find({segment.layer, segment.expert});
    if (found == rules.end() || found->second.loss_scale == 1) continue;
    const Tensor gradient = gradients().flat_slice(gradient_offset(segment), Shape{segment.kept.count()});
    kernels::scale(context_.exec, 1 / found->second.loss_scale, gradient);
  }
}

// An expert's own clipping comes before the global norm.
void Optimizer::apply_rules(const std::vector<double>& squares, const ExpertRules::ByExpert& rules) {
  if (rules_.empty()) return;
  std::vector<double> of_expert(experts_.size(), 0.0), factors(experts_.size(), 1.0);
  for (size_t i = 0; i < squares.size(); ++i) {
    if (groups_[i] >= 0) of_expert[static_cast<size_t>(groups_[i])] += squares[i];
  }
  for (size_t group = 0; group < experts_.size(); ++group) {
    const auto found = rules.find(experts_[group]);
    if (found == rules.end()) continue;
    const ExpertRule& rule = found->second;
    const double norm = std::sqrt(of_expert[group]);
    if (rule.clip_norm && std::isfinite(norm) && norm > *rule.clip_norm) factors[group] = *rule.clip_norm / norm;
    if (rule.frozen) factors[group] = 0;
  }
  for (size_t i = 0; i < squares.size(); ++i) {
    const auto [layer, expert] = groups_[i] < 0 ? std::pair(-1, -1) : experts_[static_cast<size_t>(groups_[i])];
    if (expert >= 0 && rules_.trains(layer, expert)) factors_[i] = factors[static_cast<size_t>(groups_[i])];
  }
  for (SegmentState& segment : segments_) {
    if (segment.expert < 0) continue;
    const auto found = rules.find({segment.layer, segment.expert});
    segment.rule = found == rules.end() ? ExpertRule{} : found->second;
  }
}

// An expert's squares in the order of the segments of the whole model.
std::vector<IsolatedGradient> Optimizer::isolated_gradients(const std::vector<double>& squares,
                                                            const ExpertRules::ByExpert& rules,
                                                            const ExpertTokens& tokens) const {
  std::vector<IsolatedGradient> gradients = isolated_->isolation().gradients(tokens);
  for (size_t i = 0; i < squares.size(); ++i) {
    if (isolated_places_[i] < 0) continue;
    IsolatedGradient& gradient = gradients[static_cast<size_t>(isolated_places_[i])];
    gradient.square += squares[i];
    const std::pair<int, int> expert = experts_[static_cast<size_t>(groups_[i])];
    if (const auto found = rules.find(expert); found != rules.end()) gradient.rule = found->second;
    gradient.rule.frozen = gradient.rule.frozen || !rules_.trains(expert.first, expert.second);
  }
  return gradients;
}

StepReport Optimizer::report_of(const std::vector<double>& squares) {
  StepReport report;
  double total = 0;
  for (size_t i = 0; i < squares.size(); ++i) {
    if (factors_[i] == 0 || isolated_places_[i] >= 0) continue;  // 0: frozen
    total += factors_[i] == 1 ? squares[i] : squares[i] * factors_[i] * factors_[i];
    if (!std::isfinite(squares[i]) && report.first_non_finite.empty()) report.first_non_finite = norm_->all()[i].name;
  }
  report.gradient_norm = std::sqrt(total);
  report.finite = std::isfinite(total);
  if (!report.finite && report.first_non_finite.empty()) report.first_non_finite = "all segments together";
  if (settings_.clip_norm && report.gradient_norm > *settings_.clip_norm) {
    report.clip_factor = *settings_.clip_norm / report.gradient_norm;
  }
  return report;
}

// By piece of what is owned. `runs`: of what the updated segments keep, as kernels::kChangeRun cuts it.
std::vector<std::vector<double>> Optimizer::owned_changes(Changes& changes) const {
  constexpr int64_t kOfPiece = parallel::kPieceElements / kernels::kChangeRun;
  static_assert(kOfPiece * kernels::kChangeRun == parallel::kPieceElements);
  std::span<double> adamw = changes.adamw, sgd = changes.sgd;
  std::vector<std::vector<double>> pieces;
  for (const SegmentState& segment : segments_) {
    std::span<double>& runs = segment.kind == OptimizerKind::kAdamW ? adamw : sgd;
    std::vector<double>& of_segment =
        pieces.emplace_back(static_cast<size_t>(parallel::pieces_of(segment.owned.count())), 0.0);
    if (!segment.updates) continue;
    const int64_t count = change_runs(segment),
                  skipped = (segment.owned.begin - segment.kept.begin) / kernels::kChangeRun;
    for (size_t piece = 0; piece < of_segment.size(); ++piece) {
      const int64_t first = skipped + static_cast<int64_t>(piece) * kOfPiece;
      of_segment[piece] = kernels::tree_sum(
          runs.subspan(static_cast<size_t>(first), static_cast<size_t>(std::min(kOfPiece, count - first))));
    }
    runs = runs.subspan(static_cast<size_t>(count));
  }
  return pieces;
}

std::vector<ExpertNorms> Optimizer::expert_norms(const std::vector<double>& gradient_squares,
                                                 const std::vector<double>& changes) {
  std::vector<ExpertNorms> norms;
  for (const auto& [layer, expert] : experts_) norms.push_back({layer, expert});
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i] < 0) continue;
    ExpertNorms& of_expert = norms[static_cast<size_t>(groups_[i])];
    of_expert.gradient += gradient_squares[i];
    of_expert.update += changes[i];
  }
  for (ExpertNorms& of_expert : norms) {
    of_expert.gradient = std::sqrt(of_expert.gradient);
    of_expert.update = std::sqrt(of_expert.update);
  }
  return norms;
}

StepReport Optimizer::step(int64_t step, int64_t total_steps, const ExpertTokens& tokens, bool with_norms) {
  const ExpertRules::ByExpert rules = rules_.at(step, total_steps);
  divide_by_loss_scales(rules);
  if (isolated_) isolated_->prepare(segments_);
  const std::vector<double> squares = norm_->squares(segments_, owned_squares());
  apply_rules(squares, rules);
  StepReport report = report_of(squares);
  for (SegmentState& segment : segments_) {
    const size_t index = norm_->index_of(segment.name);
    segment.gradient_norm = std::sqrt(squares[index]);
    segment.clip_factor = factors_[index] * report.clip_factor;
    segment.updates = !segment.rule.frozen && rules_.trains(segment.layer, segment.expert);
  }
  if (!report.finite) return report;
  if (isolated_) {
    const std::vector<IsolatedGradient> gradients = isolated_gradients(squares, rules, tokens);
    report.events = isolated_->decide(step, tokens.global_targets, gradients, segments_);
  }
  const double lr = learning_rate(step, total_steps);
  Changes changes;
  for (SegmentState& segment : segments_) {
    segment.steps += segment.updates ? 1 : 0;
    std::vector<double>& of_kind = segment.kind == OptimizerKind::kAdamW ? changes.adamw : changes.sgd;
    if (segment.updates && with_norms) of_kind.resize(of_kind.size() + static_cast<size_t>(change_runs(segment)));
  }
  update_adamw(lr, changes.adamw);
  update_sgd(lr, changes.sgd);
  if (with_norms) {
    report.norms = expert_norms(squares, norm_->squares(segments_, owned_changes(changes), "update norms"));
  }
  if (isolated_) isolated_->finish(segments_);
  store_.touch();
  return report;
}

void Optimizer::update_adamw(double lr, std::span<double> changes) {
  std::vector<kernels::AdamWSegment> updates;
  for (const SegmentState& s : segments_) {
    if (!s.updates || s.kind != OptimizerKind::kAdamW) continue;
    updates.push_back({place_of(s), lr * s.rule.lr_scale, s.rule.beta1.value_or(settings_.beta1),
                       s.rule.beta2.value_or(settings_.beta2), s.rule.eps.value_or(settings_.eps),
                       s.rule.weight_decay.value_or(s.weight_decay), s.steps, s.clip_factor});
  }
  if (updates.empty()) return;
  kernels::adamw(context_.exec, updates, store_.values(), gradients(), first_moment_, second_moment_, changes);
}

void Optimizer::update_sgd(double lr, std::span<double> changes) {
  std::vector<kernels::SgdSegment> updates;
  for (const SegmentState& s : segments_) {
    if (!s.updates || s.kind != OptimizerKind::kSgd) continue;
    updates.push_back({place_of(s), lr * s.rule.lr_scale, s.rule.momentum.value_or(settings_.momentum),
                       settings_.nesterov, s.rule.weight_decay.value_or(s.weight_decay), s.clip_factor});
  }
  if (updates.empty()) return;
  kernels::sgd(context_.exec, updates, store_.values(), gradients(), first_moment_, changes);
}

}  // namespace cadre::optim
