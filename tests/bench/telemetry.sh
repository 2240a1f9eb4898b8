#!/usr/bin/env bash
# What telemetry of experts costs. The peer case is trained with every second step measured: a measured step against the mean of its
# neighbours, which is the alternation that a busy machine disturbs least. By default one step in so many is measured, so that the cost is
# that part of it. With --whole also runs without telemetry and with it as it is by default, in alternation.
# Usage: tests/bench/telemetry.sh [--whole] [--ranks N] [--rounds N] [--steps N] [--set KEY=VALUE ...]
set -euo pipefail
ranks=1 rounds=3 steps=84 whole=false always=()
while [ $# -gt 0 ]; do
  case $1 in
    --whole) whole=true; shift ;;
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
  train "$ranks" "half-$round" --set monitor.experts_every=2 "${always[@]}"
  step=$(neighbours "half-$round")
  awk -v s="$step" -v e="$default" 'BEGIN { print s, 1 + (s - 1) / e }' | tee -a ratios |
    awk -v n="$round" '{ printf "round %d: a measured step over its neighbours %.4f, so by default %.4f\n", n, $1, $2 }'
  $whole || continue
  train "$ranks" "off-$round" --set monitor.experts_every=0 "${always[@]}"
  train "$ranks" "on-$round" "${always[@]}"
  awk -v a="$(mean "off-$round")" -v b="$(mean "on-$round")" 'BEGIN { printf "  mean step of whole runs, with over without: %.4f\n", b / a }'
done
sort -g ratios | awk '{ s[NR] = $1; d[NR] = $2 } END { m = int((NR + 1) / 2); printf "median of %d rounds: %.4f, by default %.4f\n", NR, s[m], d[m] }'
