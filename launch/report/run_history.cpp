#include "launch/report/run_history.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/error.h"

namespace cadre::launch {
namespace {

using nlohmann::json;

double number(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : kUnknown;
}

// Numbers of a list, NaN for what is none; empty when there is no such list.
std::vector<double> numbers(const json& object, const char* key) {
  std::vector<double> values;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return values;
  for (const json& value : *found) values.push_back(value.is_number() ? value.get<double>() : kUnknown);
  return values;
}

// Reads the experts of one layer in one step.
class LayerReader {
 public:
  LayerReader(const json& object, int64_t step, LayerRecord& layer) : object_(object), step_(step), layer_(layer) {}

  void read() {
    tokens_ = numbers(object_, "tokens");
    const std::vector<double> ids = numbers(object_, "ids");
    for (ExpertRecord& expert : layer_.experts) expert.present = expert.in_quarantine = false;
    for (size_t place = 0; place < tokens_.size(); ++place) {
      const auto id = place < ids.size() ? static_cast<int64_t>(ids[place]) : static_cast<int64_t>(place);
      rows_.push_back(row_of(id, place));
    }
    read_loads();
    read_details();
    read_isolation();
    const auto add = [&](const char* key, LayerRecord::Measure measure) {
      layer_.measures.add(step_, measure, number(object_, key));
    };
    add("utilisation", LayerRecord::kUtilisation);
    add("cv", LayerRecord::kVariation);
    add("js", LayerRecord::kDivergence);
    add("entropy", LayerRecord::kEntropy);
    const double dropped = number(object_, "dropped");
    if (dropped > 0) layer_.dropped += static_cast<int64_t>(dropped);
  }

 private:
  // Most often an expert's row is its place.
  size_t row_of(int64_t id, size_t guess = 0) {
    if (guess < layer_.experts.size() && layer_.experts[guess].id == id) return guess;
    for (size_t row = 0; row < layer_.experts.size(); ++row) {
      if (layer_.experts[row].id == id) return row;
    }
    layer_.experts.emplace_back().id = id;
    return layer_.experts.size() - 1;
  }

  void read_loads() {
    const double all = std::accumulate(tokens_.begin(), tokens_.end(), 0.0);
    const std::vector<double> drops = numbers(object_, "drops"), idle = numbers(object_, "idle");
    for (size_t place = 0; place < tokens_.size(); ++place) {
      ExpertRecord& expert = layer_.experts[rows_[place]];
      expert.present = true;
      expert.idle = place < idle.size() ? static_cast<int64_t>(idle[place]) : 0;
      if (place < drops.size() && drops[place] > 0) expert.drops += static_cast<int64_t>(drops[place]);
      if (!(all > 0) || !(tokens_[place] >= 0)) continue;
      expert.load = tokens_[place] / all * static_cast<double>(tokens_.size());
      expert.tokens += static_cast<int64_t>(tokens_[place]);
      layer_.tokens += static_cast<int64_t>(tokens_[place]);
      layer_.loads.add(step_, rows_[place], expert.load);
    }
  }

  void read_details() {
    const auto take = [&](const char* key, double ExpertRecord::*which) {
      const std::vector<double> values = numbers(object_, key);
      for (size_t place = 0; place < std::min(values.size(), rows_.size()); ++place)
        layer_.experts[rows_[place]].*which = values[place];
    };
    take("mass", &ExpertRecord::mass);
    take("grad_norm", &ExpertRecord::gradient_norm);
    take("update_norm", &ExpertRecord::update_norm);
  }

  void read_isolation() {
    for (const double id : numbers(object_, "skipped")) ++layer_.experts[row_of(static_cast<int64_t>(id))].skipped;
    for (const double id : numbers(object_, "quarantined")) {
      ExpertRecord& expert = layer_.experts[row_of(static_cast<int64_t>(id))];
      ++expert.quarantined;
      expert.in_quarantine = true;
    }
  }

  const json& object_;
  int64_t step_;
  LayerRecord& layer_;
  std::vector<double> tokens_;
  std::vector<size_t> rows_;  // by place
};

void read_layers(const json& object, int64_t step, RunHistory& history) {
  const auto found = object.find("experts");
  if (found == object.end() || !found->is_array()) return;
  for (const json& of_layer : *found) {
    if (!of_layer.is_object() || !std::isfinite(number(of_layer, "layer"))) continue;
    const auto layer = static_cast<int64_t>(number(of_layer, "layer"));
    auto at = std::find_if(history.layers.begin(), history.layers.end(),
                           [&](const LayerRecord& record) { return record.layer == layer; });
    if (at == history.layers.end()) {
      at = history.layers.emplace(history.layers.end());
      at->layer = layer;
    }
    LayerReader(of_layer, step, *at).read();
  }
}

void read_traffic(const json& object, int64_t step, RunHistory& history) {
  const auto found = object.find("dispatch_bytes");
  if (found == object.end() || !found->is_array()) return;
  history.traffic = {step, {}};
  for (const json& row : *found) history.traffic.bytes.push_back(numbers(json{{"row", row}}, "row"));
}

void read_step(const json& object, int64_t step, RunHistory& history) {
  const double tokens = number(object, "tokens"), seconds = number(object, "seconds");
  if (history.steps++ == 0) history.first_step = step;
  history.last_step = step;
  if (tokens > 0) history.tokens += tokens;
  if (seconds > 0) history.seconds += seconds;
  if (std::isfinite(number(object, "loss")))
    history.losses.push_back({step, history.tokens, number(object, "loss"), number(object, "validation_loss")});
  const auto add = [&](RunHistory::Quantity quantity, double value) { history.quantities.add(step, quantity, value); };
  add(RunHistory::kLearningRate, number(object, "lr"));
  add(RunHistory::kGradientNorm, number(object, "grad_norm"));
  add(RunHistory::kTokensPerSecond, number(object, "tokens_per_second"));
  const double joules = number(object, "joules");
  if (joules >= 0 && tokens > 0) {
    history.joules += joules;
    history.joule_tokens += tokens;
    add(RunHistory::kJoulesPerToken, joules / tokens);
  }
  if (const double bits = number(object, "validation_bits_per_byte"); bits > 0) history.bits_per_byte = bits;
  read_traffic(object, step, history);
  read_layers(object, step, history);
}

}  // namespace

double LayerRecord::last(Measure measure) const {
  for (size_t column = measures.columns(); column-- > 0;) {
    if (const double value = measures.mean(measure, column); std::isfinite(value)) return value;
  }
  return kUnknown;
}

RunHistory read_history(const std::filesystem::path& metrics) {
  if (!std::filesystem::is_regular_file(metrics))
    throw DataError(metrics.string() + ": no such file; wanted the directory of a run with monitor.metrics");
  std::ifstream file(metrics);
  if (!file) throw DataError(metrics.string() + ": cannot be read");
  RunHistory history;
  for (std::string line; std::getline(file, line);) {
    const json object = json::parse(line, nullptr, false);
    const double step = object.is_object() ? number(object, "step") : kUnknown;
    if (step > static_cast<double>(history.last_step) && step < 1e15) {
      read_step(object, static_cast<int64_t>(step), history);
    } else {
      ++history.bad_lines;
    }
  }
  if (history.steps == 0) throw DataError(metrics.string() + ": no line of it is a step of a run");
  return history;
}

}  // namespace cadre::launch
