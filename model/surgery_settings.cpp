#include "model/surgery_settings.h"

namespace cadre::config {
namespace {

template <class T>
auto of_event(T model::ExpertOperationSettings::*member) {
  return static_cast<T model::ExpertEventSettings::*>(member);
}

}  // namespace

void Schema<model::ExpertEventSettings>::fields(Fields<model::ExpertEventSettings>& f) {
  using S = model::ExpertEventSettings;
  f.about("An operation on experts at the end of a step.");
  f.add("when", &S::when,
        "An expression of step (from 1), steps (of the run), loss, validation_loss (the last one, infinite before) and "
        "fired (how often this event was there)")
      .required();
  f.add("times", &S::times, "At most so often; null: whenever `when` is true").min(1);
  f.add("do", of_event(&S::kind), "What");
  f.add("experts", of_event(&S::experts),
        "To which: as in moe.rules; for add, the group that gets them, such as layers.*.experts.code")
      .required()
      .not_empty();
  f.add("where", of_event(&S::where),
        "Of those, where this is true; may use step, steps, layer, id, experts (of the layer), load (mean of the last "
        "steps, 1 is fair), load_rank (0: the busiest of the layer), idle (steps without tokens), norm (of its "
        "weights, 1 is the layer's mean) and norm_rank (0: the largest)");
  f.add("count", of_event(&S::count),
        "clone: copies of each; add: new experts of a layer; split: parts; null: 1, and 2 parts")
      .min(1);
  f.add("noise", of_event(&S::noise), "On new weights, relative to the root mean square of their tensor").min(0);
  f.add("top_k", of_event(&S::top_k), "Experts of a token in these layers from then on; null: as before").min(1);
  f.add("ffn_hidden_size", of_event(&S::ffn_hidden_size), "add, to a group that is new: null: moe.ffn_hidden_size")
      .min(1);
  f.add("activation", of_event(&S::activation), "Likewise; null: model.activation");
}

void Schema<model::EditedGroupSettings>::fields(Fields<model::EditedGroupSettings>& f) {
  using S = model::EditedGroupSettings;
  f.about("Experts of one kind.");
  f.add("name", &S::name, "Of the group; empty: of what num_experts makes");
  f.add("ids", &S::ids, "Of routed experts, in their order").min(0);
  f.add("count", &S::count, "Of shared experts").min(0);
  f.add("computation", &S::computation, "As in groups");
  f.add("placement", &S::placement, "As in groups");
  f.add("ffn_hidden_size", &S::ffn_hidden_size, "Hidden width of one that computes").min(0);
  f.add("activation", &S::activation, "Of its hidden layer");
  f.add("init_std", &S::init_std, "Of weights that begin anew").above(0);
}

void Schema<model::EditedLayerSettings>::fields(Fields<model::EditedLayerSettings>& f) {
  using S = model::EditedLayerSettings;
  f.about("The experts of one layer.");
  f.add("layer", &S::layer, "Which, from 0").required().min(0);
  f.add("top_k", &S::top_k, "Experts of a token").required().min(1);
  f.add("next_id", &S::next_id, "Ids are never used again: that of the next expert").required().min(0);
  f.add("groups", &S::groups, "All of them").required();
}

}  // namespace cadre::config
