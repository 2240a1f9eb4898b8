#!/usr/bin/env bash
# Experts and ranks that get no token, one expert that gets them all, experts that the ranks do not divide, and ranks that hold few of
# them: no hang, and the losses of one rank.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
limit=60
export CADRE_TIMEOUT_SECONDS=30
small=(--set precision.compute=fp64 --set data.seq_length=16 --set run.steps=6 --set checkpoint.every=0
  --set "model={hidden_size: 16, num_layers: 2, num_heads: 2, num_kv_heads: 1, ffn_hidden_size: 24}")

# A text of one letter: every position has the same hidden state, so all tokens choose the same expert.
head -c 20000 /dev/zero | tr '\0' a >flat.txt
"$CADRE" data prepare flat.txt --tokenizer bytes -o flat >/dev/null

# Choices of each expert in the layers and steps of a run, a line each: "0,0,128".
choices() { grep -o '"tokens":\[[0-9,]*\]' "$1/metrics.jsonl" | tr -d '"tokens:[]'; }

# same CASE "RANKS EXPERT_PARALLEL" ... -- ARGUMENT ...: every layout trains like one rank.
same() {
  local name=$1 layouts=() layout ranks expert; shift
  while [ "$1" != -- ]; do layouts+=("$1"); shift; done
  shift
  train 1 "$name" "${small[@]}" "$@"
  for layout in "${layouts[@]}"; do
    read -r ranks expert <<<"$layout"
    expect 0 "$name-$ranks-$expert.log" "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml "${small[@]}" "$@" \
      --set "run.directory=$name-$ranks-$expert" --set "parallel.expert_parallel=$expert"
    same_losses "$name-$ranks-$expert" "$name" 6 1e-9
    [ "$(choices "$name")" = "$(choices "$name-$ranks-$expert")" ] || fail "other experts were chosen" "$name-$ranks-$expert.log"
  done
}

# Zero tokens for all experts but one, and for all ranks of an expert group but one.
one=(--set "data.train=[flat]" --set "moe={num_experts: 3, top_k: 1, ffn_hidden_size: 16, balance: {aux_loss_coef: 0.01, z_loss_coef: 0.001}}")
same flat "2 2" "3 3" "4 2" -- "${one[@]}" --set "batch={global_batch_size: 12, micro_batch_size: 1}"
choices flat | awk -F, '{ zeros = 0; for (e = 1; e <= NF; e++) zeros += $e == 0; if (NF != 3 || zeros != 2) exit 1 } END { exit NR != 12 }' ||
  fail "the text of one letter does not choose one expert: $(choices flat)"
# The same in rounds, and with a capacity that drops most of it.
same rounds "2 2" "3 3" -- "${one[@]}" --set "batch={global_batch_size: 12, micro_batch_size: 2}" --set parallel.max_dispatch_tokens=5
same capacity "2 2" "3 3" -- "${one[@]}" --set "batch={global_batch_size: 12, micro_batch_size: 2}" --set moe.capacity_factor=1
# One token of a sequence at a time: most experts of a micro-batch get nothing, others in every layer.
same sparse "2 2" "4 4" -- --set data.seq_length=1 --set "batch={global_batch_size: 4, micro_batch_size: 1}" \
  --set "moe={num_experts: 7, top_k: 1, ffn_hidden_size: 16}"
# Real text, and experts that the ranks do not divide.
same text "3 3" "4 4" -- --set "batch={global_batch_size: 12, micro_batch_size: 1}" --set "moe={num_experts: 7, top_k: 2, ffn_hidden_size: 16}"
