#include "model/moe_settings.h"

#include <fmt/core.h>

#include "core/config/messages.h"

namespace cadre::config {

void Schema<model::ExpertGroupSettings>::fields(Fields<model::ExpertGroupSettings>& f) {
  using S = model::ExpertGroupSettings;
  f.about(
      "A kind of experts. Expressions may use layer, num_layers, hidden_size, ffn_hidden_size (that of moe), top_k and "
      "moe.variables.");
  f.add("name", &S::name, "In lower-case letters, digits and _").required().not_empty();
  f.add("each", &S::each, "\"i = 0..3\": a group for each i, which expressions may use; the name has {i} in it");
  f.add("when", &S::when, "In which layers, such as layer % 2 == 1");
  f.add("count", &S::count, "Experts of the group in a layer").min(0);
  f.add("computation", &S::computation,
        "full: a feed-forward network; else next to nothing is computed: zero gives 0, copy the token itself, constant "
        "a mixture of it and a learned vector. Such groups come last");
  f.add("ffn_hidden_size", &S::ffn_hidden_size, "Hidden width of one; auto: moe.ffn_hidden_size").min(1);
  f.add("activation", &S::activation, "auto: model.activation");
  f.add("init_std", &S::init_std, "As model.init_std; auto: that").above(0);
  f.add(
      "placement", &S::placement,
      "Which ranks of an expert group hold them: even: dealt out with the layer's others; everywhere: copies on every "
      "rank, so that no token travels to them; 2 or 0..1: these ranks, counted round where there are fewer");
  f.add("shared", &S::shared, "Every token takes them, and no router chooses them");
}

void Schema<model::ExpertGroupSettings>::check(const model::ExpertGroupSettings& s, Problems& problems) {
  // A loop's variable stands for digits.
  const size_t begin = s.each.empty() ? std::string::npos : s.name.find('{'), end = s.name.find('}');
  const bool has_variable = begin != std::string::npos && end != std::string::npos && begin < end;
  const std::string plain =
      has_variable ? fmt::format("{}0{}", s.name.substr(0, begin), s.name.substr(end + 1)) : s.name;
  const bool lower = plain.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos;
  if (!is_identifier(plain) || !lower) {
    problems.add("name",
                 fmt::format("got {}, wanted lower-case letters, digits and _, a letter first", in_quotes(s.name)));
  }
  if (s.computation == model::ExpertComputation::kFull) return;
  const auto no_network = [&](const char* key, bool given) {
    if (!given) return;
    problems.add(key, fmt::format("is given, and experts of computation: {} have no feed-forward network",
                                  enum_name(s.computation)));
  };
  no_network("ffn_hidden_size", !s.ffn_hidden_size.is_auto());
  no_network("activation", !s.activation.is_auto());
  no_network("init_std", !s.init_std.is_auto());
  if (s.shared) problems.add("computation", "of shared experts is full: they are there to compute for every token");
}

void Schema<model::ExpertLayerSettings>::fields(Fields<model::ExpertLayerSettings>& f) {
  using S = model::ExpertLayerSettings;
  f.about("What is different in the layers for which `when` is true.");
  f.add("when", &S::when, "In which layers, such as layer < 2").required();
  f.add("dense", &S::dense, "No experts");
  f.add("top_k", &S::top_k, "Experts of a token; null: as moe.top_k").min(1);
  f.add("groups", &S::groups, "Instead of moe.groups; null: those");
}

void Schema<model::ExpertRuleSettings>::fields(Fields<model::ExpertRuleSettings>& f) {
  using S = model::ExpertRuleSettings;
  f.about("What training does differently with some experts. Expressions may use step (from 1) and steps, of the run.");
  f.add("experts", &S::experts, "Which: layers.3.experts.17, layers.*.experts.code[0..3], layers.0..5.experts.*")
      .required();
  f.add("optimizer", &S::optimizer,
        "Instead of optimizer.kind, in all steps; lr, beta1 and so on are still those of `optimizer` and of rules; "
        "null: as before");
  f.add("lr_scale", &S::lr_scale, "Multiplies the learning rate; null: as before").min(0);
  f.add("weight_decay", &S::weight_decay, "Instead of optimizer.weight_decay; null: as before").min(0);
  f.add("clip_norm", &S::clip_norm,
        "Largest norm of one such expert's gradient, before the global norm is taken; null: as before")
      .above(0);
  f.add("beta1", &S::beta1, "Instead of optimizer.beta1; null: as before").min(0);
  f.add("beta2", &S::beta2, "Instead of optimizer.beta2; null: as before").min(0);
  f.add("eps", &S::eps, "Instead of optimizer.eps; null: as before").above(0);
  f.add("momentum", &S::momentum, "Instead of optimizer.momentum; null: as before").min(0);
  f.add("loss_scale", &S::loss_scale,
        "Multiplies the gradients within such an expert, and is divided out before its norm is taken; powers of 2 "
        "change "
        "no bit; null: as before")
      .above(0);
  f.add("frozen", &S::frozen,
        "While it is true (step <= 100), weights, moments and step count stay, and the gradient counts in no norm; "
        "null: as before");
  f.add("detached_input", &S::detached_input,
        "While it is true, no gradient goes through such an expert into what it reads; null: as before");
  f.add("detached_router", &S::detached_router,
        "While it is true, the weights that a token gives such an expert have no gradient; null: as before");
  f.add("dropout", &S::dropout,
        "Probability that such an expert sits out a step, in which no token chooses it; null: as before")
      .min(0)
      .max(1);
}

void Schema<model::LossScaleSettings>::fields(Fields<model::LossScaleSettings>& f) {
  using S = model::LossScaleSettings;
  f.about(
      "A factor on the backward through an isolated expert, taken off its gradient again; each expert has its own.");
  f.add("initial", &S::initial, "At first").min(1);
  f.add("factor", &S::factor, "It shrinks by this when the gradient is not finite, and grows by it").above(1);
  f.add("growth_interval", &S::growth_interval, "It grows after so many good steps in a row").min(1);
  f.add("most", &S::most, "It does not grow beyond this").min(1);
}

void Schema<model::LossScaleSettings>::check(const model::LossScaleSettings& s, Problems& problems) {
  if (s.initial > s.most) problems.add("initial", fmt::format("{} is more than most {}", s.initial, s.most));
}

void Schema<model::QuarantineSettings>::fields(Fields<model::QuarantineSettings>& f) {
  using S = model::QuarantineSettings;
  f.about("What becomes of an isolated expert whose gradient is not finite.");
  f.add("steps", &S::steps, "How many steps it then goes without updates").min(1);
  f.add("snapshot_every", &S::snapshot_every,
        "Steps between snapshots of healthy experts: weights, moments and step counts, to which a bad one goes back")
      .min(1);
}

void Schema<model::IsolationSettings>::fields(Fields<model::IsolationSettings>& f) {
  using S = model::IsolationSettings;
  f.about("Experts whose gradients stop or scale the update of nothing else: their own norms, clipping and skipping.");
  f.add("experts", &S::experts, "Which: as in moe.rules").not_empty();
  f.add("clip_norm", &S::clip_norm,
        "Largest norm of one expert's gradient, over all its weights; auto: optimizer.clip_norm; null: no clipping; a "
        "rule's clip_norm wins")
      .above(0);
  f.add("normalise_by_tokens", &S::normalise_by_tokens,
        "An expert's gradient is the mean over its own tokens, not over all target tokens of the global batch");
  f.add("accumulate_tokens", &S::accumulate_tokens,
        "An expert is updated once it has seen so many tokens, by the gradients of all steps since the last time; 0: "
        "in each step")
      .min(0);
  f.add("skip_idle", &S::skip_idle, "No update, and no weight decay, in a step without tokens for the expert");
  f.add("loss_scale", &S::loss_scale,
        "A factor on the backward through an expert, divided out before its update; it shrinks when the gradient is "
        "not finite, and grows when it long has been; null: none");
  f.add("quarantine", &S::quarantine,
        "An expert whose gradient is not finite goes back to its last snapshot and then rests; null: it only misses "
        "the step's update");
}

void Schema<model::BalanceSettings>::fields(Fields<model::BalanceSettings>& f) {
  using S = model::BalanceSettings;
  f.about(
      "Auxiliary losses that keep experts in use. Coefficients may be expressions of step (from 1) and steps, of the "
      "run; 0 turns a loss off.");
  f.add("aux_loss_coef", &S::aux_loss_coef,
        "Of the Switch/GShard loss: experts * sum of fraction of choices * mean score");
  f.add("scope", &S::scope, "Over which tokens an expert's load is measured");
  f.add("importance_coef", &S::importance_coef, "Of the squared coefficient of variation of the experts' gate weights");
  f.add("hinge_coef", &S::hinge_coef,
        "Of the sum of relu(load - 1.5) + relu(0.5 - load), load = experts * share of the gate weights");
  f.add("load_coef", &S::load_coef,
        "Of the same of the smooth loads of a router with noise: an expert's probabilities to be chosen");
  f.add("entropy_coef", &S::entropy_coef, "Of a token's mean entropy over experts; below 0 it spreads the scores");
  f.add("z_loss_coef", &S::z_loss_coef, "Of the router z-loss");
}

void Schema<model::RouterSettings>::fields(Fields<model::RouterSettings>& f) {
  using S = model::RouterSettings;
  f.about("Scores of experts, in FP32 or wider; the choice of a token's experts by them; and the weights of those.");
  f.add("score", &S::score, "softmax over experts, or sigmoid, each expert for itself");
  f.add("choice", &S::choice,
        "top_k; top_p: as few of those as have top_p of the scores together; random and balanced: baselines; expert: "
        "experts choose tokens, each ceil(tokens * top_k / experts) of a micro-batch");
  f.add("allow_future_tokens", &S::allow_future_tokens,
        "Train with choice: expert, where what later tokens are decides about a token's experts");
  f.add("top_p", &S::top_p, "Of top_p").above(0).max(1);
  f.add("groups", &S::groups, "Equal runs of experts, of which a token uses kept_groups at most").min(1);
  f.add("kept_groups", &S::kept_groups, "See groups").min(1);
  f.add("group_score", &S::group_score, "What a group is chosen by: its highest score, or the sum of its two highest");
  f.add("renormalise", &S::renormalise, "Divide the chosen scores by their sum");
  f.add("scale", &S::scale, "Multiplies the weights").above(0);
  f.add("bias_update_rate", &S::bias_update_rate,
        "After a step, how much more (or less) the scores of experts that got less (or more) than their share count "
        "when experts are chosen; 0: nothing does")
      .min(0);
  f.add("hierarchical", &S::hierarchical,
        "Softmax scores of two levels: over `groups`, by weights of their own, and over the experts of each");
  f.add("key_size", &S::key_size,
        "Each expert has a key of this size, each token a query; logits are their cosine / temperature. 0: logits are "
        "a linear function of the token")
      .min(0);
  f.add("temperature", &S::temperature, "Of key_size").above(0);
  f.add("jitter", &S::jitter, "In training, what the router reads is multiplied by draws from [1 - jitter, 1 + jitter)")
      .min(0)
      .max(1);
  f.add("noise", &S::noise,
        "Noisy top-k: in training, logits have normal noise, whose deviation is learned for each token and expert");
}

void Schema<model::RouterSettings>::check(const model::RouterSettings& s, Problems& problems) {
  if (s.kept_groups > s.groups) {
    problems.add("kept_groups", fmt::format("{} is more than groups {}", s.kept_groups, s.groups));
  }
  if (s.key_size == 1) problems.add("key_size", "is 1, and all cosines would be 1 or -1; wanted 0, or at least 2");
  if (s.choice == kernels::ChoiceKind::kExpert) {
    if (!s.allow_future_tokens) {
      problems.add("choice",
                   "expert lets later tokens decide about a token's experts, which a causal model cannot see when it "
                   "generates; set allow_future_tokens: true to train so all the same");
    }
    if (s.groups > 1) problems.add("groups", "limits what a token may choose, and with choice: expert experts choose");
  }
  if (s.hierarchical && s.score == autograd::ScoreKind::kSigmoid) {
    problems.add("hierarchical", "is of softmax scores, and score is sigmoid");
  }
}

void Schema<model::MoeSettings>::fields(Fields<model::MoeSettings>& f) {
  using S = model::MoeSettings;
  f.about("Experts; num_experts 0 is a dense model, unless there are groups.");
  f.add("num_experts", &S::num_experts, "Routed experts of a layer, all alike; else `groups`").min(0).shorthand();
  f.add("top_k", &S::top_k, "Experts of a token").min(1).max(64);
  f.add("variables", &S::variables, "Names for the expressions of groups and layers; may use each other");
  f.add("groups", &S::groups,
        "Kinds of experts, instead of num_experts and shared_experts; an expert's id counts them in this order");
  f.add("layers", &S::layers, "What is different in some layers; of several that apply the later ones win, key by key");
  f.add("edited_layers", &S::edited_layers,
        "Layers whose experts are those written here, whatever else is said: what events and cadre experts have made "
        "of them; a run that resumes has its checkpoint's");
  f.add("rules", &S::rules, "What training does differently with some experts; later ones win, key by key");
  f.add("events", &S::events, "Operations on experts in the course of training, in this order");
  f.add("isolation", &S::isolation, "Experts that are updated each by itself; null: none");
  f.add("train_only", &S::train_only,
        "Selectors, as in moe.rules, of the experts that are trained; all else is frozen, embedding, attention and "
        "routers included; null: everything is trained");
  f.add("ffn_hidden_size", &S::ffn_hidden_size, "Hidden width of one expert; auto: model.ffn_hidden_size").min(1);
  f.add("shared_experts", &S::shared_experts, "Experts that every token takes").min(0);
  f.add("dense_layers", &S::dense_layers, "Leading layers without experts").min(0);
  f.add("capacity_factor", &S::capacity_factor,
        "An expert keeps at most this many times its fair share of a micro-batch; null: dropless; never at inference")
      .above(0);
  f.add("drop_policy", &S::drop_policy, "Which tokens stay under capacity: highest score, or first position");
  f.add("router", &S::router, "The router");
  f.add("balance", &S::balance, "Balance losses");
}

void Schema<model::MoeSettings>::check(const model::MoeSettings& s, Problems& problems) {
  if (s.num_experts > 0 && s.top_k > s.num_experts) {
    problems.add("top_k", fmt::format("{} is more than num_experts {}", s.top_k, s.num_experts));
  }
  const config::Expression none = 0.0;
  if (s.balance.load_coef != none && !s.router.noise) {
    problems.add("balance.load_coef", "is of a router with noise: true");
  }
  if (s.router.choice == kernels::ChoiceKind::kExpert) {
    if (s.balance.load_coef != none) problems.add("balance.load_coef", "is of routers by which tokens choose experts");
    if (s.capacity_factor) {
      problems.add("capacity_factor", "is given, and with router.choice: expert every expert takes the same share");
    }
  }
  const bool groups = !s.groups.empty();
  if (groups && s.num_experts > 0) problems.add("num_experts", "is given beside groups; wanted one of them");
  if (groups && s.shared_experts > 0) {
    problems.add("shared_experts", "is given beside groups; wanted a group with shared: true");
  }
  if (s.train_only && s.train_only->empty()) {
    problems.add("train_only", "is empty, and nothing would be trained; wanted selectors of experts, or null");
  }
  for (const auto& [name, value] : s.variables) {
    if (!is_identifier(name))
      problems.add("variables", fmt::format("got {}, wanted a name of letters, digits and _", in_quotes(name)));
  }
}

}  // namespace cadre::config
