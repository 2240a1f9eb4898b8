#!/usr/bin/env bash
# Kinds of experts from a config's groups, expressions and patterns: shown as a table, trained with the same bits on several layouts, saved
# on one and resumed on another, proved, planned. Errors name file, line, key and expression.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens
cat >config.yaml <<'YAML'
run: {directory: run, seed: 3, steps: 8}
data: {tokenizer: bytes, train: [tokens], seq_length: 32}
model: {hidden_size: 48, num_layers: 4, num_heads: 4}
moe:
  top_k: 2
  ffn_hidden_size: 64
  variables: {wide: ffn_hidden_size * 2}
  groups:
    - {name: general, count: 4}
    - {name: code, count: 2 * 2^(layer // 2), ffn_hidden_size: wide}
    - {name: "tiny{i}", each: "i = 1..2", ffn_hidden_size: 16 * i, activation: gelu, when: layer % 2 == 1}
    - {name: always, shared: true}
  layers: [{when: layer == 0, dense: true}]
batch: {global_batch_size: 8, micro_batch_size: 2}
checkpoint: {every: 4, keep: 0}
monitor: {peak_gflops: 100}
YAML

"$CADRE" config show config.yaml --experts >table.txt
rows() { sed -E 's/ +/ /g; s/ $//' table.txt; }
for line in "0 dense, width 128" "1 general 0..3 4 64 swiglu 0.02 0.04 top 2 of 8" "1 tiny2 7 1 32 gelu 0.02 0.00 top 2 of 8" \
            "2 code 4..7 4 128 swiglu 0.02 0.07 top 2 of 8" "3 always - 1 64 swiglu 0.02 0.01 shared"; do
  rows | grep -qxF "$line" || { cat table.txt; echo "the table lacks: $line"; exit 1; }
done

at=checkpoints/step-00000008
train 1 one --set parallel.reproducible=true
while read -r name ranks settings; do
  [ -n "$name" ] || continue
  arguments=()
  for setting in $settings; do arguments+=(--set "parallel.$setting"); done
  train "$ranks" "$name" --set parallel.reproducible=true "${arguments[@]}" </dev/null
  differences=$({ "$CADRE" checkpoint diff "one/$at" "$name/$at" || true; } | grep -v -e '^state.config:' -e identical || true)
  [ -z "$differences" ] || { echo "$name: other bits than on one rank: $differences"; exit 1; }
done <<'LAYOUTS'
ep2     2 expert_parallel=2 overlap_chunks=3
ep4     4 expert_parallel=4
ep2-pp2 4 expert_parallel=2 pipeline_parallel=2
LAYOUTS

# Half on two ranks, half on four.
train 2 moved --set parallel.reproducible=true --set parallel.expert_parallel=2 --set run.stop_after=4
train 4 moved --set parallel.reproducible=true --set parallel.pipeline_parallel=2 --set parallel.expert_parallel=2 --resume must
differences=$({ "$CADRE" checkpoint diff "one/$at" "moved/$at" || true; } | grep -v -e '^state.config:' -e identical || true)
[ -z "$differences" ] || { echo "moved: $differences"; exit 1; }

"$CADRE" verify config.yaml --shrink --ranks 2 >verify.log || { tail verify.log; exit 1; }
"$CADRE" plan config.yaml --ranks 4 --device h100 >plan.log

# refused MESSAGE SETTING: the line says what is wrong and where.
refused() {
  local status=0
  "$CADRE" config check config.yaml --set "$2" >refused.log 2>&1 || status=$?
  [ "$status" = 2 ] && grep -qF "$1" refused.log || { cat refused.log; echo "wanted exit 2 and: $1; got $status"; exit 1; }
}
refused 'moe.groups[1].count: in layer 1: "layer / 2" is 0.5, wanted a whole number' "moe.groups[1].count=layer / 2"
refused '"depth" is no variable or function here; variables are ' "moe.groups[1].ffn_hidden_size=depth * 2"
refused 'moe.num_experts: is given beside groups' moe.num_experts=4
sed -i 's/2 \* 2^(layer .. 2)/2 * (layer - 2)/' config.yaml
refused 'config.yaml:10: moe.groups[1].count: in layer 1: "2 * (layer - 2)" is -2, wanted a whole number, at least 0' run.seed=4
