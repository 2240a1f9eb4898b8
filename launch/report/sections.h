#pragma once
// The parts of a report's page.

#include <string>

#include "launch/report/run_history.h"
#include "launch/report/specialisation.h"

namespace cadre::launch {

std::string summary_section(const RunHistory& history);
std::string training_section(const RunHistory& history);
// Empty without MoE layers.
std::string experts_section(const RunHistory& history);
// Empty where no traffic was measured.
std::string traffic_section(const RunHistory& history);
// Empty without MoE layers.
std::string specialisation_section(const RunHistory& history, const Specialisation& specialisation);
// `config`: text of config.resolved.yaml; empty: there is none.
std::string config_section(const std::string& config);

}  // namespace cadre::launch
