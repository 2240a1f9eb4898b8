#!/usr/bin/env bash
# The peer case (docs/performance.md) as a training: two ranks of one core each, by data and by expert parallelism, against one rank with two
# threads, in alternation. Usage: tests/bench/ranks.sh [--rounds N] [--steps N]. Prints each round's best and median steps as ratios.
set -euo pipefail
top=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
rounds=3 steps=24
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    *) echo "ranks.sh: unknown argument '$1'; wanted [--rounds N] [--steps N]" >&2; exit 2 ;;
  esac
done
export CADRE=$top/build/cadre CADRE_RUN=$top/launch/run CADRE_SOURCE=$top
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
source "$top/tests/acceptance/fixture.sh"
make_tokens
cat >config.yaml <<YAML
run: {directory: run, steps: $steps}
data: {tokenizer: bytes, train: [tokens], seq_length: 256}
model: {hidden_size: 256, num_layers: 4, num_heads: 4, vocab_size: 257, tie_embeddings: false}
moe: {num_experts: 8, top_k: 2, ffn_hidden_size: 512}
batch: {global_batch_size: 8, micro_batch_size: 4}
checkpoint: {every: 0}
monitor: {peak_gflops: 100, tensorboard: false}
YAML

# of DIRECTORY: best and median seconds of a step after the first four, and the share of it that waits for messages.
of() {
  tail -n +5 "$1/metrics.jsonl" | sed -E 's/.*"seconds":([0-9.e-]+).*"exposed_communication":([0-9.e-]+).*/\1 \2/' | sort -g |
    awk '{ t[NR] = $1; e[NR] = $2 } END { m = int((NR + 1) / 2); print t[1], t[m], e[m] / t[m] }'
}
for round in $(seq "$rounds"); do
  train 1 one-$round --set batch.micro_batch_size=8
  train 2 data-$round
  train 2 expert-$round --set parallel.expert_parallel=2
  read -r best median _ < <(of one-$round)
  for kind in data expert; do
    read -r b m waits < <(of $kind-$round)
    awk -v kind=$kind -v best="$best" -v median="$median" -v b="$b" -v m="$m" -v w="$waits" -v round="$round" 'BEGIN {
      printf "round %d: 2 ranks by %s reach %.1f%% of one rank (best steps %.1f%%), %.1f%% of a step waits for messages\n",
        round, kind, 100 * median / m, 100 * best / b, 100 * w }'
  done
done
