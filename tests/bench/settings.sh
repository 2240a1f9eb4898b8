#!/usr/bin/env bash
# What a setting costs or saves: the peer case trained with one and with the other, in alternation.
# Usage: tests/bench/settings.sh [--ranks N] [--rounds N] [--steps N] [--always "KEY=VALUE ..."] "KEY=VALUE ..." "KEY=VALUE ..."
# Prints the time of a step and the peak memory of rank 0 with the second as ratios to those with the first.
set -euo pipefail
ranks=2 rounds=3 steps=24 always=
while [ $# -gt 0 ]; do
  case $1 in
    --ranks) ranks=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --always) always=$2; shift 2 ;;
    -*) echo "settings.sh: unknown argument '$1'; see its head" >&2; exit 2 ;;
    *) break ;;
  esac
done
[ $# = 2 ] || { echo "settings.sh: got $# sets of settings, wanted 2" >&2; exit 2; }
source "$(dirname "$(readlink -f "$0")")/peer_training.sh"
peer_training "$steps"

# with DIRECTORY "KEY=VALUE ..."
with() {
  local directory=$1 arguments=() setting
  for setting in $always $2; do arguments+=(--set "$setting"); done
  train "$ranks" "$directory" "${arguments[@]}"
}
memory() { tail -n 1 "$1/metrics.jsonl" | grep -oE '"memory_peak":[0-9]+' | cut -d: -f2; }

for round in $(seq "$rounds"); do
  with "a-$round" "$1"
  with "b-$round" "$2"
  read -r best_a median_a waits_a < <(of "a-$round")
  read -r best_b median_b waits_b < <(of "b-$round")
  awk -v a="$median_a" -v b="$median_b" -v x="$best_a" -v y="$best_b" 'BEGIN { print b / a, y / x }' >>ratios
  read -r median best < <(tail -n 1 ratios)
  printf 'round %d: time %.3f (best steps %.3f), memory %.3f, waiting for messages %.1f%% and %.1f%% of a step\n' "$round" "$median" "$best" \
    "$(awk -v a="$(memory "a-$round")" -v b="$(memory "b-$round")" 'BEGIN { print b / a }')" \
    "$(awk -v w="$waits_a" 'BEGIN { print 100 * w }')" "$(awk -v w="$waits_b" 'BEGIN { print 100 * w }')"
done
sort -g ratios | awk '{ r[NR] = $1 } END { printf "median of %d rounds: %.3f\n", NR, r[int((NR + 1) / 2)] }'
