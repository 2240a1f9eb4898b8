#!/usr/bin/env bash
# What telemetry of experts costs: the peer case trained without it and with it as it is by default, in alternation; and with every
# second step measured, so that neighbours in one run are compared, which is less noisy.
# Usage: tests/bench/telemetry.sh [--ranks N] [--rounds N] [--steps N] [--set KEY=VALUE ...]
set -euo pipefail
ranks=1 rounds=3 steps=60 always=()
while [ $# -gt 0 ]; do
  case $1 in
    --ranks) ranks=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --set) always+=(--set "$2"); shift 2 ;;
    *) echo "telemetry.sh: unknown argument '$1'; see its head" >&2; exit 2 ;;
  esac
done
source "$(dirname "$(readlink -f "$0")")/peer_training.sh"
peer_training "$steps"
default=$("$CADRE" config show config.yaml | sed -nE 's/.*experts_every: *([0-9]+).*/\1/p')
default=${default:-10}

# mean DIRECTORY: of a step after the first four.
mean() { tail -n +5 "$1/metrics.jsonl" | sed -E 's/.*"seconds":([0-9.e-]+).*/\1/' | awk '{ s += $1 } END { print s / NR }'; }
# neighbours DIRECTORY: median over measured steps of their time over the mean of the steps before and after.
neighbours() {
  tail -n +5 "$1/metrics.jsonl" | sed -E 's/^\{"step":([0-9]+).*"seconds":([0-9.e-]+).*/\1 \2/' |
    awk '{ t[$1] = $2 } END { for (s in t) if (s % 2 == 0 && (s - 1) in t && (s + 1) in t) print 2 * t[s] / (t[s - 1] + t[s + 1]) }' |
    sort -g | awk '{ r[NR] = $1 } END { print r[int((NR + 1) / 2)] }'
}

for round in $(seq "$rounds"); do
  train "$ranks" "off-$round" --set monitor.experts_every=0 "${always[@]}"
  train "$ranks" "on-$round" "${always[@]}"
  train "$ranks" "half-$round" --set monitor.experts_every=2 "${always[@]}"
  ratio=$(awk -v a="$(mean "off-$round")" -v b="$(mean "on-$round")" 'BEGIN { print b / a }')
  step=$(neighbours "half-$round")
  awk -v r="$ratio" -v s="$step" -v e="$default" 'BEGIN { print r, s, 1 + (s - 1) / e }' | tee -a ratios |
    awk -v n="$round" '{ printf "round %d: mean step with over without %.4f; a measured step over its neighbours %.4f, so by default %.4f\n", n, $1, $2, $3 }'
done
for column in 1 3; do
  sort -g -k "$column" ratios | awk -v c="$column" '{ r[NR] = $c } END { printf "median of %d rounds, %s: %.4f\n", NR, c == 1 ? "with over without" : "from neighbours", r[int((NR + 1) / 2)] }'
done
