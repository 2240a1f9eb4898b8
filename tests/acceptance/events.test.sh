#!/usr/bin/env bash
# Experts come and go in the course of training: the same bits on one rank and on many, and for a run that was stopped between two events and
# goes on with the config that it began with; what cannot be is left out with a warning; errors name file, line and key.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens
cat >config.yaml <<'YAML'
run: {directory: run, seed: 3, steps: 24}
data: {tokenizer: bytes, train: [tokens], validation: [tokens], seq_length: 32}
model: {hidden_size: 48, num_layers: 3, num_heads: 4}
moe:
  top_k: 2
  ffn_hidden_size: 64
  groups:
    - {name: general, count: 4}
    - {name: code, count: 2, ffn_hidden_size: 32}
    - {name: always, shared: true}
  router: {bias_update_rate: 0.01}
  isolation: {experts: layers.*.experts.code, quarantine: {steps: 3, snapshot_every: 2}}
  rules: [{experts: layers.*.experts.fresh, lr_scale: 2}, {experts: "layers.0.experts.general[0]", optimizer: sgd}]
  events:
    - {when: step == 4, do: clone, experts: layers.1..2.experts.*, where: load_rank == 0}
    - {when: step == 8, do: prune, experts: layers.*.experts.*, where: load_rank == experts - 1}
    - {when: step == 12, do: split, experts: "layers.0.experts.general[0]", noise: 0}
    - {when: step == 14, do: merge, experts: "layers.1.experts.general[0..1]"}
    - {when: step == 16, do: reinitialise, experts: layers.*.experts.*, where: norm_rank == 0}
    - {when: step == 18, do: add, experts: layers.2.experts.fresh, count: 2, ffn_hidden_size: 16}
    - {when: validation_loss < 100, times: 2, do: prune, experts: layers.*.experts.*}
batch: {global_batch_size: 8, micro_batch_size: 2}
parallel: {reproducible: true}
checkpoint: {every: 6, keep: 0}
validation: {every: 6}
monitor: {peak_gflops: 100}
YAML

train 1 one
for line in "events\[0\]: clone: layers.1.experts.6 is a copy of layers.1.experts" "events\[1\]: prune: layers.0.experts.[0-5] is gone" \
            "events\[2\]: split: layers.0.experts.6 is part 1 of 2 of" "events\[3\]: merge: layers.1.experts.7 is the mean of" \
            "events\[4\]: reinitialise: layers.2.experts.7 begins anew" "events\[5\]: add: layers.2.experts.[89] begins"; do
  grep -q "$line" one.log || { cat one.log; echo "the log lacks: $line"; exit 1; }
done
[ "$(grep -c 'events\[6\]: prune: not done: prune: no routed experts' one.log)" = 2 ] || { cat one.log; echo "wanted two warnings"; exit 1; }
[ ! -e one/checkpoints.edit ] || { echo "the scratch checkpoint is still there"; exit 1; }

same() {
  local differences
  differences=$({ "$CADRE" checkpoint diff "one/checkpoints/step-000000$2" "$1/checkpoints/step-000000$2" || true; } | grep -v -e '^state.config:' -e identical || true)
  [ -z "$differences" ] || { echo "$1, step $2: other bits than on one rank: $differences"; exit 1; }
}
train 2 ep2 --set parallel.expert_parallel=2
train 3 pp3 --set parallel.pipeline_parallel=3
train 4 both --set parallel.expert_parallel=2 --set parallel.pipeline_parallel=2
for step in 06 12 18 24; do
  for run in ep2 pp3 both; do same $run $step; done
done

# Stopped after an event, and before the next.
train 2 stopped --set parallel.expert_parallel=2 --set run.stop_after=9
train 4 stopped --set parallel.expert_parallel=4 --resume must
grep -q 'experts of 3 layers are those of' stopped.log || { cat stopped.log; echo "wanted a line about the experts"; exit 1; }
same stopped 24
# The config that the run has written goes on as well.
train 1 again --set run.stop_after=20
"$CADRE" train again/config.resolved.yaml --set run.stop_after=null >again.log 2>&1 || { tail again.log; exit 1; }
same again 24

# Offline, on a checkpoint of another layout: the same on one rank and on four.
"$CADRE" experts clone both --experts 'layers.*.experts.*' --where 'load_rank == 0' -o first >/dev/null
"$CADRE_RUN" -n 4 "$CADRE" experts clone one --experts 'layers.*.experts.*' --where 'load_rank == 0' -o second >/dev/null
differences=$({ "$CADRE" checkpoint diff first second || true; } | grep -v -e '^state.config:' -e identical || true)
[ -z "$differences" ] || { echo "offline: $differences"; exit 1; }

# refused STATUS MESSAGE COMMAND ...
refused() {
  local wanted=$1 message=$2 status=0; shift 2
  "$@" >refused.log 2>&1 || status=$?
  [ "$status" = "$wanted" ] && grep -qF "$message" refused.log || { cat refused.log; echo "wanted exit $wanted and: $message; got $status"; exit 1; }
}
refused 2 'moe.events[0].where: "popular": "popular" is no variable or function here' "$CADRE" config check config.yaml --set 'moe.events[0].where=popular'
refused 2 'moe.events[5].experts: add wants a group' "$CADRE" config check config.yaml --set 'moe.events[5].experts=layers.2.experts.1'
refused 2 'layers.0.experts.77' "$CADRE" experts prune one --experts layers.0.experts.77 -o third
refused 2 'has checkpoints already' "$CADRE" experts clone one --experts 'layers.0.experts.*' -o second
refused 2 'wanted one that is routed, such as layers.0.experts' "$CADRE" experts export one --experts 'layers.0.experts.*' -o file
head -c 100 config.yaml >file
refused 4 'file: is no whole safetensors file' "$CADRE" experts import one --file file --into layers.0.experts.guest -o third
"$CADRE" experts export one --experts 'layers.0.experts.code[0]' -o file >/dev/null
printf 'x' | dd of=file bs=1 seek=3000 conv=notrunc status=none
refused 4 'another hash than it says' "$CADRE" experts import one --file file --into layers.0.experts.guest -o third
[ ! -e third ] || { echo "something was written for what was refused"; exit 1; }
