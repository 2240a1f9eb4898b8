#include "launch/settings.h"

#include <fmt/core.h>

#include "launch/experts/events.h"
#include "launch/monitor/prometheus.h"
#include "model/expert_layout.h"
#include "optim/expert_isolation.h"
#include "optim/expert_rules.h"

namespace cadre::config {

void Schema<launch::RunSettings>::fields(Fields<launch::RunSettings>& f) {
  using S = launch::RunSettings;
  f.about("What a run is, and where it writes.");
  f.add("directory", &S::directory, "Checkpoints, metrics and logs go here");
  f.add("seed", &S::seed, "Of initial weights and of the order of samples");
  f.add("steps", &S::steps, "Optimizer steps of the whole run").min(1);
  f.add("stop_after", &S::stop_after, "Save and end after this step, to be resumed; null: run to the end").min(1);
  f.add("time_limit_seconds", &S::time_limit_seconds,
        "Save and end, with exit code 143, when another step would end later than this after the start, judged by the "
        "longest; leave time for the save; null: no limit")
      .min(1);
}

void Schema<launch::DeviceSettings>::fields(Fields<launch::DeviceSettings>& f) {
  using S = launch::DeviceSettings;
  f.about("What ranks compute on.");
  f.add("kind", &S::kind, "auto: the CPU").shorthand();
  f.add("threads", &S::threads, "Threads of a rank; auto: its share of the machine's cores").min(1).max(1024);
  f.add("memory_gib", &S::memory_gib,
        "Memory of a rank, in GiB, for what is auto in batch and parallel; auto: its share of the machine's")
      .above(0);
  f.add("isa", &S::isa, "Instruction set of the CPU kernels; auto: the widest of the machine");
}

void Schema<launch::BatchSettings>::fields(Fields<launch::BatchSettings>& f) {
  using S = launch::BatchSettings;
  f.about("Sequences per optimizer step; what is left over micro-batches and ranks is gradient accumulation.");
  f.add("global_batch_size", &S::global_batch_size, "Sequences of one optimizer step, over all ranks").min(1);
  f.add("micro_batch_size", &S::micro_batch_size,
        "Sequences of one forward and backward on one rank; auto: as parallel.expert_parallel")
      .min(1);
}

void Schema<launch::BatchSettings>::check(const launch::BatchSettings& s, Problems& problems) {
  const int64_t micro = s.micro_batch_size.value_or(1);
  if (s.global_batch_size % micro != 0) {
    problems.add("micro_batch_size",
                 fmt::format("{} does not divide global_batch_size {}", micro, s.global_batch_size));
  }
}

void Schema<launch::PlacementSettings>::fields(Fields<launch::PlacementSettings>& f) {
  using S = launch::PlacementSettings;
  f.about("Which ranks of an expert group hold which experts.");
  f.add("kind", &S::kind, "Evenly in order; as `holders` says; or moved, while training, to where the load evens out")
      .shorthand();
  f.add("holders", &S::holders,
        "table: for each expert the ranks of a group, from 0, that hold it; several are replicas")
      .min(0);
  f.add("every", &S::every, "balanced: steps between changes, each by the loads since the last").min(1);
  f.add("replicas", &S::replicas,
        "balanced: more copies of a layer's hottest experts, in all; their gradients are summed")
      .min(0);
}

void Schema<launch::PlacementSettings>::check(const launch::PlacementSettings& s, Problems& problems) {
  const bool table = s.kind == launch::PlacementKind::kTable;
  if (table == s.holders.empty()) {
    problems.add("holders", table ? "is empty; kind: table wants a list of ranks for each expert"
                                  : "is given; wanted kind: table with it");
  }
}

void Schema<launch::ParallelSettings>::fields(Fields<launch::ParallelSettings>& f) {
  using S = launch::ParallelSettings;
  f.about("How ranks share the work.");
  f.add("data_parallel", &S::data_parallel, "Ranks that share out the global batch; auto: all").min(1);
  f.add("expert_parallel", &S::expert_parallel,
        "Of those, ranks that share out the experts; divides data_parallel; auto: the fastest that fits "
        "device.memory_gib, as far as a plan can tell (cadre plan)")
      .min(1);
  f.add("pipeline_parallel", &S::pipeline_parallel,
        "Pipeline stages; ranks = data_parallel x pipeline_parallel; auto: as expert_parallel")
      .min(1);
  f.add("schedule", &S::schedule, "In which order a pipeline's stages take the micro-batches");
  f.add("stages_per_rank", &S::stages_per_rank, "Stages of the model on each pipeline rank; schedule: interleaved")
      .min(1);
  f.add("layers_per_stage", &S::layers_per_stage,
        "Layers of each stage, from the first; auto: stages that cost as much as each other")
      .min(0);
  f.add("stage_costs", &S::stage_costs,
        "By what auto stages are balanced: FLOPs, or seconds measured on rank 0 at the start; changes no bit");
  f.add("dispatcher", &S::dispatcher,
        "How tokens reach the ranks of their experts: each where it is wanted, or all everywhere (simple and slow)");
  f.add("overlap_chunks", &S::overlap_chunks,
        "Parts in which a layer's experts exchange and compute, so that one part's tokens travel while another's are "
        "computed")
      .min(1)
      .max(64);
  f.add("max_dispatch_tokens", &S::max_dispatch_tokens,
        "Most token copies that a rank's experts compute at a time; one that attracts more takes them in rounds, which "
        "the "
        "backward computes again; null: all at once")
      .min(1);
  f.add("placement", &S::placement, "Where experts are");
  f.add(
       "zero", &S::zero,
       "What ranks that hold the same weights share out (ZeRO): 0 nothing; 1 the optimizer's moments and the update; 2 "
       "gradients, too, which costs a reduction for each micro-batch")
      .min(0)
      .max(2);
  f.add(
      "reproducible", &S::reproducible,
      "FP32 losses, norms, weights and optimizer state have the same bits on every layout with the same micro-batches; "
      "auto: where that can be, takes at most two more buffers of gradients, and max_dispatch_tokens is null");
  f.add("bucket_mib", &S::bucket_mib, "Gradients are reduced in buckets of this size, in MiB").above(0).max(1024);
  f.add(
       "timeout_seconds", &S::timeout_seconds,
       "How long a rank waits for the others before the job ends with exit code 5 and tells where every rank is; null: "
       "CADRE_TIMEOUT_SECONDS of the environment, or 600")
      .min(1)
      .max(86400);
}

void Schema<launch::ParallelSettings>::check(const launch::ParallelSettings& s, Problems& problems) {
  if (s.stages_per_rank > 1 && s.schedule != parallel::ScheduleKind::kInterleaved) {
    problems.add("stages_per_rank", fmt::format("{} with schedule {}; wanted 1, or schedule: interleaved",
                                                s.stages_per_rank, enum_name(s.schedule)));
  }
}

void Schema<launch::PrecisionSettings>::fields(Fields<launch::PrecisionSettings>& f) {
  using S = launch::PrecisionSettings;
  f.about("Number formats.");
  f.add("compute", &S::compute, "fp64 runs the reference kernels: slow, to check others against").shorthand();
}

void Schema<launch::CheckpointSettings>::fields(Fields<launch::CheckpointSettings>& f) {
  using S = launch::CheckpointSettings;
  f.about("Saving. A checkpoint is also written at the end, and when the run is told to stop.");
  f.add("every", &S::every, "Steps between checkpoints; 0: only at the end").min(0);
  f.add("keep", &S::keep, "Newest checkpoints to keep; 0: all").min(0).max(1000);
  f.add("permanent_every", &S::permanent_every, "Keep multiples of this step for ever; 0: none").min(0);
  f.add("background", &S::background, "Write while training goes on");
  f.add("shard_mib", &S::shard_mib, "Largest file of a checkpoint, in MiB").min(1).max(16384);
}

void Schema<launch::ValidationSettings>::fields(Fields<launch::ValidationSettings>& f) {
  using S = launch::ValidationSettings;
  f.about("Loss on data.validation while training, and after the last step; nothing happens without such files.");
  f.add("every", &S::every, "Steps between evaluations; 0: only after the last step").min(0);
  f.add("tokens", &S::tokens,
        "Most tokens to score each time: whole windows of data.seq_length, always the same, spread evenly over the "
        "files; "
        "0: all")
      .min(0);
}

void Schema<launch::MonitorSettings>::fields(Fields<launch::MonitorSettings>& f) {
  using S = launch::MonitorSettings;
  f.about("What a run reports.");
  f.add("metrics", &S::metrics, "Write metrics.jsonl, one object a step");
  f.add("tensorboard", &S::tensorboard, "Write TensorBoard events");
  f.add("log_every", &S::log_every, "Steps between log lines when the output is not a terminal").min(1);
  f.add("experts_every", &S::experts_every,
        "Steps between those that also measure, for each expert, router mass, gradient and update norm, with the "
        "routers' entropy and the traffic between expert ranks; step 1 does; 0: never")
      .min(0);
  f.add("prometheus", &S::prometheus,
        "Serve metrics over HTTP while the run lives: a port of 127.0.0.1, or \"ADDRESS:PORT\"; null: no");
  f.add("peak_gflops", &S::peak_gflops, "FP32 peak of one rank, for the share of peak; 0: measured at start").min(0);
}

void Schema<launch::MonitorSettings>::check(const launch::MonitorSettings& s, Problems& problems) {
  if (!s.prometheus || !launch::listen_address(*s.prometheus).empty()) return;
  problems.add("prometheus",
               "is \"" + *s.prometheus + "\"; wanted a port, or a numeric address and a port, as 0.0.0.0:9400");
}

void Schema<launch::Settings>::fields(Fields<launch::Settings>& f) {
  using S = launch::Settings;
  f.about("A training run.");
  f.add("run", &S::run, "The run");
  f.add("device", &S::device, "Device");
  f.add("data", &S::data, "Tokenizer and token files");
  f.add("model", &S::model, "Network");
  f.add("moe", &S::moe, "Experts");
  f.add("batch", &S::batch, "Batch sizes");
  f.add("parallel", &S::parallel, "Layout over ranks");
  f.add("precision", &S::precision, "Number formats");
  f.add("recompute", &S::recompute, "Gradient checkpointing");
  f.add("optimizer", &S::optimizer, "Optimizer and schedule");
  f.add("checkpoint", &S::checkpoint, "Checkpoints");
  f.add("validation", &S::validation, "Held-out loss while training");
  f.add("monitor", &S::monitor, "Reports");
}

void Schema<launch::Settings>::check(const launch::Settings& s, Problems& problems) {
  try {
    const model::ExpertLayout layout(s.network());
    const optim::ExpertRules rules(s.moe, layout);
    if (s.moe.isolation) optim::ExpertIsolation(*s.moe.isolation, layout, s.optimizer.clip_norm);
    const launch::ExpertEvents events(s.moe.events, layout);
  } catch (const model::ExpertLayoutError& failure) {
    problems.add(failure.key(), failure.text());
  }
}

}  // namespace cadre::config
