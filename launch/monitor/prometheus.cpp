#include "launch/monitor/prometheus.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <charconv>
#include <filesystem>
#include <map>
#include <numeric>

#include "launch/monitor/load_spread.h"
#include "launch/monitor/sink_file.h"

namespace cadre::launch {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Labels;

// The directory's own name.
std::string run_name(const std::string& directory) {
  const std::filesystem::path path = std::filesystem::weakly_canonical(directory);
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

}  // namespace

std::string listen_address(const std::string& text) {
  const size_t colon = text.rfind(':');
  const std::string host = colon == std::string::npos ? "127.0.0.1" : text.substr(0, colon);
  const std::string digits = colon == std::string::npos ? text : text.substr(colon + 1);
  int port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  const bool named = host.find_first_not_of("0123456789abcdefABCDEF.:[]") == std::string::npos && !host.empty();
  return whole && named && port >= 1 && port <= 65535 ? host + ":" + std::to_string(port) : "";
}

// Registered once; what has labels gets its series when it first has a value.
struct PrometheusServer::Series {
  explicit Series(std::string run) : run_(std::move(run)) {}

  void set(const StepMetrics& m) {
    gauge(step_).Set(static_cast<double>(m.step));
    gauge(loss_).Set(m.loss);
    gauge(balance_loss_).Set(m.balance_loss);
    gauge(z_loss_).Set(m.z_loss);
    gauge(learning_rate_).Set(m.learning_rate);
    gauge(gradient_norm_).Set(m.gradient_norm);
    gauge(tokens_per_second_).Set(m.tokens_per_second());
    gauge(step_seconds_).Set(m.seconds);
    gauge(memory_in_use_).Set(static_cast<double>(m.memory_in_use));
    gauge(memory_peak_).Set(static_cast<double>(m.memory_peak));
    gauge(rank_imbalance_).Set(m.rank_imbalance);
    if (m.joules > 0) gauge(joules_per_token_).Set(m.joules_per_token());
    if (m.validation.tokens > 0) gauge(validation_loss_).Set(m.validation.loss);
    counter(tokens_, {}).Increment(static_cast<double>(m.tokens));
    for (const LayerLoad& load : m.experts) set(load);
  }

  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();

 private:
  struct ExpertSeries {
    int64_t id;
    Gauge *load, *idle;
    Gauge *mass = nullptr, *gradient_norm = nullptr, *update_norm = nullptr;
  };

  Family<Gauge>& family(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Labels({{"run", run_}}).Register(*registry);
  }
  Family<Counter>& counts(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Labels({{"run", run_}}).Register(*registry);
  }
  static Gauge& gauge(Family<Gauge>& family) { return family.Add({}); }
  static Counter& counter(Family<Counter>& family, const Labels& labels) { return family.Add(labels); }
  static std::string text(int64_t number) { return std::to_string(number); }

  void set(const LayerLoad& load) {
    const Labels labels{{"layer", text(load.layer)}};
    const LoadSpread spread = load_spread(load.tokens);
    utilisation_.Add(labels).Set(spread.utilisation);
    variation_.Add(labels).Set(spread.variation);
    divergence_.Add(labels).Set(spread.divergence);
    if (load.detail) entropy_.Add(labels).Set(load.detail->entropy);
    counter(dropped_, labels).Increment(static_cast<double>(load.dropped));
    if (load.isolation) {
      for (const int64_t id : load.isolation->skipped)
        counter(skipped_, {{"layer", text(load.layer)}, {"expert", text(id)}}).Increment();
    }
    set_experts(load, series_of(load));
  }

  void set_experts(const LayerLoad& load, std::vector<ExpertSeries>& experts) {
    const double all = static_cast<double>(std::accumulate(load.tokens.begin(), load.tokens.end(), int64_t{0}));
    const double fair = all / static_cast<double>(experts.size());
    for (size_t place = 0; place < experts.size(); ++place) {
      ExpertSeries& expert = experts[place];
      if (all > 0) expert.load->Set(static_cast<double>(load.tokens[place]) / fair);
      if (!load.idle_steps.empty()) expert.idle->Set(static_cast<double>(load.idle_steps[place]));
      if (!load.detail) continue;
      const Labels labels{{"layer", text(load.layer)}, {"expert", text(expert.id)}};
      const auto measured = [&](Family<Gauge>& family, Gauge*& gauge, const std::vector<double>& values) {
        if (values.empty()) return;
        if (gauge == nullptr) gauge = &family.Add(labels);
        gauge->Set(values[place]);
      };
      measured(mass_, expert.mass, load.detail->mass);
      measured(expert_gradient_norm_, expert.gradient_norm, load.detail->gradient_norm);
      measured(update_norm_, expert.update_norm, load.detail->update_norm);
    }
  }

  // Series of a layer's experts, those of experts that are gone taken away.
  std::vector<ExpertSeries>& series_of(const LayerLoad& load) {
    std::vector<ExpertSeries>& experts = experts_[load.layer];
    bool same = experts.size() == load.tokens.size();
    for (size_t place = 0; same && place < experts.size(); ++place) same = experts[place].id == load.id(place);
    if (same) return experts;
    for (const ExpertSeries& gone : experts) {
      load_.Remove(gone.load);
      idle_.Remove(gone.idle);
      if (gone.mass != nullptr) mass_.Remove(gone.mass);
      if (gone.gradient_norm != nullptr) expert_gradient_norm_.Remove(gone.gradient_norm);
      if (gone.update_norm != nullptr) update_norm_.Remove(gone.update_norm);
    }
    experts.clear();
    for (size_t place = 0; place < load.tokens.size(); ++place) {
      const Labels labels{{"layer", text(load.layer)}, {"expert", text(load.id(place))}};
      experts.push_back({load.id(place), &load_.Add(labels), &idle_.Add(labels)});
    }
    return experts;
  }

  std::string run_;
  Family<Gauge>& step_ = family("cadre_step", "Finished steps");
  Family<Gauge>& loss_ = family("cadre_loss", "Training loss, nats a token");
  Family<Gauge>& balance_loss_ = family("cadre_balance_loss", "Balance losses, coefficients included");
  Family<Gauge>& z_loss_ = family("cadre_z_loss", "Router z-loss, coefficient included");
  Family<Gauge>& learning_rate_ = family("cadre_learning_rate", "Learning rate");
  Family<Gauge>& gradient_norm_ = family("cadre_gradient_norm", "Global gradient norm before clipping");
  Family<Gauge>& tokens_per_second_ = family("cadre_tokens_per_second", "Tokens a second of the last step");
  Family<Gauge>& step_seconds_ = family("cadre_step_seconds", "Seconds of the last step");
  Family<Gauge>& memory_in_use_ = family("cadre_memory_in_use_bytes", "Bytes of tensors, rank 0");
  Family<Gauge>& memory_peak_ = family("cadre_memory_peak_bytes", "Most bytes of tensors so far, rank 0");
  Family<Gauge>& rank_imbalance_ =
      family("cadre_rank_imbalance", "Rows of the fullest rank of an expert group over the mean, of the worst layer");
  Family<Gauge>& joules_per_token_ = family("cadre_joules_per_token", "Energy of all hosts' processors and memory");
  Family<Gauge>& validation_loss_ = family("cadre_validation_loss", "Held-out loss, nats a token");
  Family<Gauge>& utilisation_ =
      family("cadre_layer_utilisation", "Share of experts with more than half of the fair share of choices");
  Family<Gauge>& variation_ = family("cadre_layer_load_cv", "Coefficient of variation of loads");
  Family<Gauge>& divergence_ = family("cadre_layer_load_js", "Jensen-Shannon divergence of loads from even ones, nats");
  Family<Gauge>& entropy_ = family("cadre_layer_router_entropy", "Mean entropy of a token's scores, nats");
  Family<Gauge>& load_ = family("cadre_expert_load", "Choices of an expert over the fair share");
  Family<Gauge>& idle_ = family("cadre_expert_idle_steps", "Steps since a token was last computed by an expert");
  Family<Gauge>& mass_ = family("cadre_expert_mass", "Share of the scores of all tokens");
  Family<Gauge>& expert_gradient_norm_ = family("cadre_expert_gradient_norm", "Gradient norm of an expert");
  Family<Gauge>& update_norm_ = family("cadre_expert_update_norm", "Norm of what a step added to an expert's weights");
  Family<Counter>& tokens_ = counts("cadre_tokens_total", "Target tokens since this process began");
  Family<Counter>& dropped_ = counts("cadre_dropped_total", "Choices that no expert computed, likewise");
  Family<Counter>& skipped_ = counts("cadre_skipped_total", "Updates that an isolated expert missed, likewise");
  std::map<int64_t, std::vector<ExpertSeries>> experts_;

 public:
  std::unique_ptr<prometheus::Exposer> exposer;  // ends first
};

PrometheusServer::PrometheusServer(std::string address) : address_(std::move(address)) {}
PrometheusServer::~PrometheusServer() = default;

void PrometheusServer::on_start(const RunInfo& info) {
  series_ = std::make_unique<Series>(run_name(info.directory));
  try {
    series_->exposer = std::make_unique<prometheus::Exposer>(address_);
  } catch (const std::exception&) {
    throw SinkError("cannot listen on " + address_ + "; is it in use?");
  }
  series_->exposer->RegisterCollectable(series_->registry);
}

void PrometheusServer::on_step(const StepMetrics& metrics) { series_->set(metrics); }

}  // namespace cadre::launch
