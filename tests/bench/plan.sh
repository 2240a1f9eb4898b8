#!/usr/bin/env bash
# What `cadre plan` predicts for one and two ranks of this machine beside what training takes: step time and memory.
#   tests/bench/plan.sh [--steps N] [--config PATH] [--cadre PATH]
# Without --config: the sizes of docs/performance.md's peer case, on English text. Training and planning take turns.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
root=$here/../.. cadre=$here/../../build/cadre steps=60 config=
while [ $# -gt 0 ]; do
  case $1 in
    --steps) steps=$2; shift 2 ;;
    --config) config=$(readlink -f "$2"); shift 2 ;;
    --cadre) cadre=$(readlink -f "$2"); shift 2 ;;
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    *) echo "plan.sh: unknown argument '$1'; see --help" >&2; exit 2 ;;
  esac
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ -z "$config" ]; then
  cd "$scratch"
  gzip -dc </usr/share/dictd/gcide.dict.dz 2>/dev/null | head -c 4000000 >text.txt || true
  "$cadre" data prepare text.txt --tokenizer bytes --invalid-utf8 replace -o tokens >/dev/null
  config=$scratch/config.yaml
  cat >"$config" <<'YAML'
data: {tokenizer: bytes, train: [tokens], seq_length: 256}
model: {hidden_size: 256, num_layers: 4, num_heads: 4}
moe: {num_experts: 8, top_k: 2, ffn_hidden_size: 512}
batch: {global_batch_size: 16, micro_batch_size: 4}
checkpoint: {every: 0}
YAML
fi

field() { grep -oE "\"$1\": *[0-9.e+-]+" | sed -E 's/.*: *//'; }
median() { sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

printf '%-18s%14s%14s%9s%14s%14s%9s\n' layout 'predicted ms' 'measured ms' ratio 'predicted MB' 'measured MB' ratio
for layout in 1,1,1 2,1,1 2,2,1 1,1,2; do
  IFS=, read -r data expert stages <<<"$layout"
  ranks=$((data * stages)) run=$scratch/run-$data-$expert-$stages
  name=dp=$data,ep=$expert,pp=$stages
  "$root/launch/run" -n "$ranks" "$cadre" train "$config" --set run.directory="$run" --set run.steps="$steps" \
    --set parallel.expert_parallel="$expert" --set parallel.pipeline_parallel="$stages" >"$run.log" 2>&1 ||
    { tail -n 5 "$run.log" >&2; exit 1; }
  "$cadre" plan "$config" --ranks "$ranks" --layout "$name" --json >"$run.json"
  # The first steps touch fresh memory.
  tail -n "$((steps - steps / 4))" "$run/metrics.jsonl" | grep -oE '"seconds":[0-9.e+-]+' | cut -d: -f2 | median >"$run.seconds"
  tail -n 1 "$run/metrics.jsonl" | field memory_peak >"$run.memory"
  awk -v name="$name" -v p="$(field step <"$run.json")" -v m="$(cat "$run.seconds")" \
    -v pm="$(field total <"$run.json" | sort -g | tail -n 1)" -v mm="$(cat "$run.memory")" 'BEGIN {
    printf "%-18s%14.1f%14.1f%9.2f%14.1f%14.1f%9.2f\n", name, 1e3 * p, 1e3 * m, p / m, 1e-6 * pm, 1e-6 * mm, pm / mm }'
done
