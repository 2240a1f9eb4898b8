#include "launch/cli/experts_options.h"

#include <memory>

#include "launch/cli/commands.h"

namespace cadre::launch {
namespace {

using Action = std::function<int()>;

struct Operation {
  const char *name, *about, *experts;
  const char* count;  // what it counts; null: nothing
  bool chooses;       // among the selected ones, by --where
  bool noise;
};
constexpr Operation kOperations[] = {
    {"add", "New experts, which begin anew", "The group that gets them, such as layers.*.experts.code", "New experts",
     false, true},
    {"clone", "Copies of experts", "Which, such as layers.3.experts.17 or layers.*.experts.code[0..3]",
     "Copies of each", true, true},
    {"split", "Experts in parts, their hidden units shared out", "Which", "Parts of each", true, true},
    {"merge", "The chosen experts of a layer become one, their mean", "Which", nullptr, true, false},
    {"prune", "Experts go", "Which", nullptr, true, false},
    {"reinitialise", "Others, which begin anew, in the place of experts", "Which", nullptr, true, true}};

void add_checkpoint(CLI::App& app, ExpertsArguments& arguments) {
  app.add_option("checkpoint", arguments.checkpoint, "A checkpoint, or a run (its newest counts)")->required();
}
void add_output(CLI::App& app, ExpertsArguments& arguments, const char* what) {
  app.add_option("-o,--output", arguments.output, what)->required();
}
constexpr const char* kRun = "Directory of the run that goes on with them";

void add_operation(CLI::App& experts, const Operation& operation, Action& action) {
  auto arguments = std::make_shared<ExpertsArguments>();
  CLI::App* command = experts.add_subcommand(operation.name, operation.about);
  add_checkpoint(*command, *arguments);
  command->add_option("--experts", arguments->experts, operation.experts)->required();
  add_output(*command, *arguments, kRun);
  command->add_option("--top-k", arguments->top_k, "Experts of a token in these layers from now on; else as before")
      ->check(CLI::PositiveNumber);
  if (operation.count) command->add_option("--count", arguments->count, operation.count)->check(CLI::PositiveNumber);
  if (operation.noise) {
    command->add_option("--noise", arguments->noise, "On new weights, relative to the root mean square of their tensor")
        ->capture_default_str();
  }
  if (operation.chooses) {
    command
        ->add_option("--where", arguments->where,
                     "Of those, where this is true: an expression of layer, id, experts, load, load_rank, idle, norm "
                     "and norm_rank, such as \"load_rank == 0\"")
        ->capture_default_str();
  } else {
    command->add_option("--ffn-hidden-size", arguments->ffn_hidden_size, "Width, where the group is new")
        ->check(CLI::PositiveNumber);
    command->add_option("--activation", arguments->activation, "swiglu | gelu, likewise")
        ->check(CLI::IsMember({"swiglu", "gelu"}));
  }
  const std::string name = operation.name;
  command->callback(
      [&action, arguments, name] { action = [arguments, name] { return command_experts_edit(name, *arguments); }; });
}

void add_upcycle(CLI::App& experts, Action& action) {
  auto arguments = std::make_shared<ExpertsArguments>();
  auto upcycle = std::make_shared<UpcycleArguments>();
  arguments->noise = 0;
  CLI::App* command = experts.add_subcommand("upcycle", "Dense layers become experts, copies of the layer each");
  add_checkpoint(*command, *arguments);
  command->add_option("--layers", upcycle->layers, "Which: 3, 2..5 or *")->capture_default_str();
  command->add_option("--count", upcycle->experts, "Experts of a layer")->capture_default_str();
  command->add_option("--top-k", upcycle->top_k, "Experts of a token")->capture_default_str();
  command->add_option("--noise", arguments->noise, "As for clone")->capture_default_str();
  add_output(*command, *arguments, kRun);
  command->callback([&action, arguments, upcycle] {
    action = [arguments, upcycle] { return command_experts_upcycle(*upcycle, *arguments); };
  });
}

void add_files(CLI::App& experts, Action& action) {
  auto out = std::make_shared<ExpertsArguments>();
  CLI::App* exports = experts.add_subcommand("export", "One expert to a file, with where it comes from");
  add_checkpoint(*exports, *out);
  exports->add_option("--experts", out->experts, "Which: one, such as layers.3.experts.17")->required();
  add_output(*exports, *out, "The file (safetensors)");
  exports->callback([&action, out] { action = [out] { return command_experts_export(*out); }; });
  auto in = std::make_shared<ExpertsArguments>();
  auto import = std::make_shared<ImportArguments>();
  CLI::App* imports = experts.add_subcommand("import", "The expert of a file into a model");
  add_checkpoint(*imports, *in);
  imports->add_option("--file", import->file, "That export wrote")->required();
  imports->add_option("--into", import->into, "As a new one of a group, such as layers.3.experts.code");
  imports->add_option("--replace", import->replace, "Or as the weights of one that is there, layers.3.experts.17");
  add_output(*imports, *in, kRun);
  imports->callback([&action, in, import] { action = [in, import] { return command_experts_import(*import, *in); }; });
}

}  // namespace

void add_experts(CLI::App& app, Action& action) {
  CLI::App* experts = app.add_subcommand("experts", "The experts of a checkpoint, one by one")->require_subcommand(1);
  auto path = std::make_shared<std::string>();
  CLI::App* list = experts->add_subcommand("list", "Groups, sizes, loads and norms");
  list->add_option("checkpoint", *path, "A checkpoint, or a run (its newest counts)")->required();
  list->callback([&action, path] { action = [path] { return command_experts_list(*path); }; });
  for (const Operation& operation : kOperations) add_operation(*experts, operation, action);
  add_upcycle(*experts, action);
  add_files(*experts, action);
}

}  // namespace cadre::launch
