#include "launch/report/page.h"

#include <fstream>
#include <iterator>

#include "launch/report/html.h"
#include "launch/report/page_style.h"
#include "launch/report/sections.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

// A page of several megabytes is one that nobody opens: with many layers, time is coarser.
void fit(RunHistory& history) {
  constexpr size_t kFine = 200, kCoarse = 100, kMany = 16;
  for (LayerRecord& layer : history.layers) {
    layer.loads.shrink(history.layers.size() > kMany ? kCoarse : kFine);
    layer.measures.shrink(history.layers.size() > kMany ? kCoarse / 2 : kFine);
  }
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::string report_html(Session& session, const ReportOptions& options) {
  RunHistory history = read_history(options.run / kMetricsFileName);
  fit(history);
  Specialisation specialisation;
  if (!history.layers.empty()) specialisation = specialisation_of(session, options.run, options.tokens);
  const fs::path whole = fs::weakly_canonical(options.run);
  const std::string name = escaped(whole.filename().string());
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>" +
         name + " – cadre</title>\n<style>" + page_style() + "</style></head>\n<body><header><h1>" + name + "</h1><p>" +
         escaped(whole.string()) + "</p></header>\n" + summary_section(history) + training_section(history) +
         experts_section(history) + traffic_section(history) + specialisation_section(history, specialisation) +
         config_section(text_of(options.run / "config.resolved.yaml")) +
         "<footer>made by cadre report</footer></body></html>\n";
}

}  // namespace cadre::launch
