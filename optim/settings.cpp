#include "optim/settings.h"

namespace cadre::config {

void Schema<optim::ScheduleSettings>::fields(Fields<optim::ScheduleSettings>& f) {
  using S = optim::ScheduleSettings;
  f.about("Learning rate over time: a linear warmup, then one of these shapes.");
  f.add("kind", &S::kind, "Shape after the warmup").shorthand();
  f.add("warmup_steps", &S::warmup_steps, "Steps from 0 to the peak").min(0);
  f.add("min_lr_ratio", &S::min_lr_ratio, "Final learning rate as a part of the peak").min(0).max(1);
  f.add("period_steps", &S::period_steps, "cosine_restarts: steps of the first cycle").min(1);
  f.add("period_factor", &S::period_factor, "cosine_restarts: growth of each next cycle").min(1);
  f.add("decay_fraction", &S::decay_fraction, "wsd: part of the run that decays, at its end").min(0).max(1);
  f.add("decay_shape", &S::decay_shape, "wsd: shape of the decay");
}

void Schema<optim::OptimizerSettings>::fields(Fields<optim::OptimizerSettings>& f) {
  using S = optim::OptimizerSettings;
  f.about("How parameters are updated. Norms and embeddings are not decayed.");
  f.add("kind", &S::kind, "Update rule").shorthand();
  f.add("lr", &S::lr, "Peak learning rate").above(0);
  f.add("beta1", &S::beta1, "AdamW: decay of the first moment").min(0).below(1);
  f.add("beta2", &S::beta2, "AdamW: decay of the second moment").min(0).below(1);
  f.add("eps", &S::eps, "AdamW: added to the root of the second moment").above(0);
  f.add("weight_decay", &S::weight_decay, "Decoupled weight decay").min(0);
  f.add("momentum", &S::momentum, "SGD: momentum").min(0).below(1);
  f.add("nesterov", &S::nesterov, "SGD: Nesterov's form");
  f.add("clip_norm", &S::clip_norm, "Largest global gradient norm; null: no clipping").above(0);
  f.add("schedule", &S::schedule, "Learning rate over time");
}

}  // namespace cadre::config
