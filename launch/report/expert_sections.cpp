#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "launch/monitor/quantity.h"
#include "launch/report/chart.h"
#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace cadre::launch {
namespace {

constexpr size_t kOpenLayers = 4;  // layers beyond are folded
constexpr size_t kMostTrafficCells = 1024;

std::string percent(double part, double whole) { return whole > 0 ? figure(100 * part / whole) + "%" : "–"; }

// A background in the colour of `style`, as strong as `strength` in [0, 1].
std::string shade(const char* style, double strength) {
  return fmt::format(" class=\"{}\" style=\"--s:{:.0f}%\"", style, 100 * std::clamp(strength, 0.0, 1.0));
}

// Over and under the fair share in different colours, as in the heat map.
std::string shade_of_load(double load) {
  if (!std::isfinite(load)) return "";
  const double octaves = load > 0 ? std::clamp(std::log2(load), -2.0, 2.0) : -2;
  return shade(octaves < 0 ? "under" : "over", std::abs(octaves) / 2);
}

std::string state_of(const ExpertRecord& expert) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (!expert.present) add("gone");
  if (expert.in_quarantine) add("in quarantine");
  if (expert.skipped > 0) add(fmt::format("skipped {}", whole(expert.skipped)));
  if (expert.quarantined > 0) add(fmt::format("quarantined {}", whole(expert.quarantined)));
  return text;
}

std::string expert_table(const LayerRecord& layer) {
  std::string text =
      "<table><thead><tr><th>expert<th>load<th>of all tokens<th>mass<th>gradient<th>update<th>idle<th>drops<th>"
      "</tr></thead><tbody>\n";
  for (const ExpertRecord& expert : layer.experts) {
    text += fmt::format("<tr><td>{}<td{}>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}\n", expert.id,
                        shade_of_load(expert.load), figure(expert.load),
                        percent(static_cast<double>(expert.tokens), static_cast<double>(layer.tokens)),
                        percent(expert.mass, 1), figure(expert.gradient_norm), figure(expert.update_norm),
                        whole(expert.idle), whole(expert.drops), state_of(expert));
  }
  return "<div class=\"scroll\">" + text + "</tbody></table></div>\n";
}

std::string layer_charts(const LayerRecord& layer, const RunHistory& history) {
  const auto chart = [&](const char* title, const char* unit, LayerRecord::Measure measure) {
    Chart of{title,
             unit,
             {{"last", "a", points_of(layer.measures, measure)}},
             static_cast<double>(history.first_step),
             static_cast<double>(history.last_step)};
    of.from_zero = measure != LayerRecord::kEntropy;
    of.to_one = measure == LayerRecord::kUtilisation;
    of.width = 330;
    of.height = 140;
    return chart_html(of);
  };
  return "<div class=\"charts small\">" + chart("Utilisation", "", LayerRecord::kUtilisation) +
         chart("Variation", "CV of loads", LayerRecord::kVariation) +
         chart("Divergence", "JS, nats", LayerRecord::kDivergence) +
         chart("Router entropy", "nats", LayerRecord::kEntropy) + "</div>\n";
}

std::string layer_part(const LayerRecord& layer, const RunHistory& history, bool open) {
  return fmt::format(
             "<details id=\"layer-{0}\"{1}><summary>Layer {0} <small>{2} experts, utilisation {3}, CV "
             "{4}</small></summary>\n",
             layer.layer, open ? " open" : "", layer.experts.size(), figure(layer.last(LayerRecord::kUtilisation)),
             figure(layer.last(LayerRecord::kVariation))) +
         heat_map_html(layer) + layer_charts(layer, history) + expert_table(layer) + "</details>\n";
}

// One line for each layer.
std::string overview(const RunHistory& history) {
  std::string text =
      "<table><thead><tr><th>layer<th>experts<th>utilisation<th>CV<th>JS<th>entropy<th>fullest<th>emptiest<th>idle<th>"
      "dropped</tr></thead><tbody>\n";
  for (const LayerRecord& layer : history.layers) {
    double most = kUnknown, least = kUnknown;
    int64_t idle = 0;
    for (const ExpertRecord& expert : layer.experts) {
      if (!expert.present) continue;
      most = std::isnan(most) ? expert.load : std::max(most, expert.load);
      least = std::isnan(least) ? expert.load : std::min(least, expert.load);
      idle += expert.idle > 0 ? 1 : 0;
    }
    text += fmt::format(
        "<tr><td><a href=\"#layer-{0}\">{0}</a><td>{1}<td>{2}<td>{3}<td>{4}<td>{5}<td{6}>{7}<td{8}>{9}<td>"
        "{10}<td>{11}\n",
        layer.layer, layer.experts.size(), figure(layer.last(LayerRecord::kUtilisation)),
        figure(layer.last(LayerRecord::kVariation)), figure(layer.last(LayerRecord::kDivergence)),
        figure(layer.last(LayerRecord::kEntropy)), shade_of_load(most), figure(most), shade_of_load(least),
        figure(least), idle, percent(static_cast<double>(layer.dropped), static_cast<double>(layer.tokens)));
  }
  return "<div class=\"scroll\">" + text + "</tbody></table></div>\n";
}

// A token's text with signs for what would not be seen; many of one sign become one and their number.
std::string shown_text(const std::string& text) {
  constexpr size_t kMost = 3;
  if (text.empty()) return "end of document";
  std::string shown;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_not_of(text[at], at), text.size());
    const char* const sign = text[at] == ' ' ? "␣" : text[at] == '\n' ? "↵" : text[at] == '\t' ? "⇥" : nullptr;
    if (sign == nullptr) {
      shown += text.substr(at, end - at);
    } else if (end - at > kMost) {
      shown += fmt::format("{}×{}", sign, end - at);
    } else {
      for (size_t i = at; i < end; ++i) shown += sign;
    }
    at = end;
  }
  return escaped(shown);
}

std::string chips(const ExpertTaste& taste) {
  std::string text;
  for (const TokenShare& token : taste.tokens_of_its_own) {
    text += fmt::format("<code title=\"{} times, {:.1f}% of its tokens, {:.1f} times its share of all\">{}</code> ",
                        token.count, 100 * token.share, token.lift, shown_text(token.text));
  }
  return text;
}

std::string taste_table(const Specialisation& all, const std::vector<ExpertTaste>& tastes) {
  std::string text = "<table class=\"taste\"><thead><tr><th>expert<th>choices";
  for (size_t source = 0; source < all.sources.size(); ++source) text += fmt::format("<th>source {}", source + 1);
  text += "<th class=\"left\">tokens of its own</tr></thead><tbody>\n";
  for (const ExpertTaste& taste : tastes) {
    text += fmt::format("<tr><td>{}<td>{}", taste.id, whole(taste.tokens));
    for (const double source : taste.sources) text += fmt::format("<td{}>{}", shade_of_load(source), figure(source));
    text += "<td class=\"left\">" + chips(taste) + "\n";
  }
  return "<div class=\"scroll\">" + text + "</tbody></table></div>\n";
}

}  // namespace

std::string experts_section(const RunHistory& history) {
  if (history.layers.empty()) return "";
  std::string text =
      "<section><h2>Experts</h2><p>Load is an expert's share of its layer's choices as a multiple of the fair share. "
      "Mass "
      "is its share of the routers' scores, gradient and update are L2 norms over all its weights; these are measured "
      "in "
      "some steps only, and the last one counts. Idle counts steps since it last computed a token, drops sum over the "
      "run.</p>\n";
  text += overview(history) + heat_map_legend_html();
  for (size_t i = 0; i < history.layers.size(); ++i) text += layer_part(history.layers[i], history, i < kOpenLayers);
  return text + "</section>\n";
}

std::string traffic_section(const RunHistory& history) {
  const std::vector<std::vector<double>>& bytes = history.traffic.bytes;
  if (bytes.empty()) return "";
  double most = 0, moved = 0, all = 0;
  for (size_t from = 0; from < bytes.size(); ++from) {
    for (size_t to = 0; to < bytes[from].size(); ++to) {
      most = std::max(most, bytes[from][to]);
      all += bytes[from][to];
      moved += from % bytes[from].size() == to ? 0 : bytes[from][to];
    }
  }
  std::string text = fmt::format(
      "<section><h2>Traffic between expert ranks</h2><p>Step {}: bytes that data ranks (rows) send to the ranks of "
      "their "
      "expert group (columns), rows forward and gradients backward, over all layers; as much comes back. {} of {} "
      "leave "
      "their rank.</p>\n",
      history.traffic.step, percent(moved, all), bytes_text(static_cast<uint64_t>(all)));
  if (bytes.size() * bytes[0].size() > kMostTrafficCells)
    return text + "<p class=\"none\">too many ranks to show; the matrix is in metrics.jsonl</p></section>\n";
  text += "<div class=\"scroll\"><table class=\"matrix\"><thead><tr><th>";
  for (size_t to = 0; to < bytes[0].size(); ++to) text += fmt::format("<th>{}", to);
  text += "</tr></thead><tbody>\n";
  for (size_t from = 0; from < bytes.size(); ++from) {
    text += fmt::format("<tr><th>{}", from);
    for (const double sent : bytes[from]) {
      text += fmt::format("<td{}>{}", shade("plain", most > 0 ? sent / most : 0),
                          std::isfinite(sent) ? bytes_text(static_cast<uint64_t>(sent)) : "–");
    }
    text += '\n';
  }
  return text + "</tbody></table></div></section>\n";
}

std::string specialisation_section(const RunHistory& history, const Specialisation& all) {
  if (history.layers.empty()) return "";
  std::string text = "<section><h2>What experts take</h2>";
  if (!all.problem.empty()) text += "<p class=\"note\">" + escaped(all.problem) + "</p>";
  if (all.layers.empty()) return text + "</section>\n";
  text += fmt::format(
      "<p>{} of step {}, over {} tokens of the run's data. A source's column is the expert's share of the source's "
      "choices as "
      "a multiple of the fair share. Tokens of its own are those that say most about the expert: share of its tokens "
      "times "
      "the logarithm of how often it takes them over how often they occur.</p><ol class=\"sources\">",
      escaped(all.checkpoint), all.step, whole(all.tokens));
  for (const std::string& source : all.sources) text += "<li>" + escaped(source);
  text += "</ol>\n";
  size_t shown = 0;
  for (const auto& [layer, tastes] : all.layers) {
    text += fmt::format("<details{}><summary>Layer {}</summary>\n", shown++ < kOpenLayers ? " open" : "", layer) +
            taste_table(all, tastes) + "</details>\n";
  }
  return text + "</section>\n";
}

}  // namespace cadre::launch
