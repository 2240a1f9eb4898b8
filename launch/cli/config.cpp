#include "core/config/config.h"

#include <fmt/core.h>

#include <cstdio>

#include "launch/cli/commands.h"
#include "launch/settings.h"
#include "model/expert_layout.h"

namespace cadre::launch {

namespace {

std::string span_text(int64_t first, int64_t last) {
  return first == last ? std::to_string(first) : fmt::format("{}..{}", first, last);
}

std::string ids_text(const model::LayerExperts& experts, const model::ExpertSet& set) {
  std::string text;
  for (int64_t place = set.first, last = place; place < set.first + set.count; place = ++last) {
    while (last + 1 < set.first + set.count && experts.id_of(last + 1) == experts.id_of(last) + 1) ++last;
    text += (text.empty() ? "" : ",") + span_text(experts.id_of(place), experts.id_of(last));
  }
  return text;
}

// Parameters of an expert by column of the hidden width.
int64_t columns_of(const model::ExpertKind& kind) {
  if (kind.computation == model::ExpertComputation::kConstant) return 3;
  return (kind.activation == kernels::Activation::kSwiGlu ? 3 : 2) * kind.ffn_hidden_size;
}

// Layers that are alike and follow each other are one line a group; parameters are those of all experts of the line.
std::string experts_text(const Settings& settings) {
  constexpr const char* kLine = "{:<9}{:<14}{:>10}{:>7}{:>7}  {:<8}{:>9}{:>12}  {}\n";
  const model::ExpertLayout layout(settings.network());
  const std::vector<size_t> classes = layout.classes();
  std::string text = fmt::format(kLine, "layers", "group", "ids", "count", "width", "act.", "init_std", "M params", "");
  for (int64_t first = 0, last = 0; first < layout.layers(); first = ++last) {
    const auto alike = [&](int64_t layer) {
      return classes[static_cast<size_t>(layer)] == classes[static_cast<size_t>(first)];
    };
    while (last + 1 < layout.layers() && alike(last + 1)) ++last;
    const std::string layers = span_text(first, last);
    const model::LayerExperts& experts = layout.layer(first);
    if (!experts.is_moe()) text += fmt::format("{:<9}dense, width {}\n", layers, settings.model.dense_ffn());
    const auto add = [&](const model::ExpertSet& set, const std::string& ids, const std::string& remark) {
      const double hidden = static_cast<double>(settings.model.hidden_size * (last - first + 1));
      const double parameters = 1e-6 * hidden * static_cast<double>(set.count * columns_of(set.kind));
      const bool computes = set.kind.computes();
      text += fmt::format(kLine, layers, set.name.empty() ? "-" : set.name, ids, set.count,
                          computes ? std::to_string(set.kind.ffn_hidden_size) : "-",
                          computes ? config::enum_name(set.kind.activation) : config::enum_name(set.kind.computation),
                          fmt::format("{:.4g}", set.kind.init_std), fmt::format("{:.2f}", parameters), remark);
    };
    const bool experts_choose = settings.moe.router.choice == kernels::ChoiceKind::kExpert;
    for (const model::ExpertSet& set : experts.routed) {
      const std::string chosen = fmt::format("top {} of {}", experts.top_k, experts.experts());
      add(set, ids_text(experts, set),
          experts_choose ? chosen + " on average; experts choose, and see future tokens" : chosen);
    }
    for (const model::ExpertSet& set : experts.shared) add(set, "-", "shared");
  }
  return text;
}

}  // namespace

int command_config_show(const ConfigArguments& arguments, bool experts) {
  const config::Document document = config::load<Settings>(arguments.path, arguments.overrides);
  const Settings settings = config::parse<Settings>(document);
  if (experts) {
    std::fputs(experts_text(settings).c_str(), stdout);
    return 0;
  }
  std::fputs(config::print_resolved(settings, &document).c_str(), stdout);
  return 0;
}

int command_config_check(const ConfigArguments& arguments) {
  config::parse<Settings>(config::load<Settings>(arguments.path, arguments.overrides));
  std::printf("%s: valid\n", arguments.path.c_str());
  return 0;
}

int command_config_docs() {
  std::fputs(config::docs<Settings>("Config").c_str(), stdout);
  return 0;
}

}  // namespace cadre::launch
