#!/usr/bin/env bash
# Two ranks of one core each, by data and by expert parallelism, against one rank with two threads, in alternation, on the peer case.
# Usage: tests/bench/ranks.sh [--rounds N] [--steps N]. Prints each round's best and median steps as ratios, and the median round.
set -euo pipefail
rounds=3 steps=24
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    *) echo "ranks.sh: unknown argument '$1'; wanted [--rounds N] [--steps N]" >&2; exit 2 ;;
  esac
done
source "$(dirname "$(readlink -f "$0")")/peer_training.sh"
peer_training "$steps"

for round in $(seq "$rounds"); do
  train 1 one-$round --set batch.micro_batch_size=8
  train 2 data-$round
  train 2 expert-$round --set parallel.expert_parallel=2
  read -r best median _ < <(of one-$round)
  for kind in data expert; do
    read -r b m waits < <(of $kind-$round)
    awk -v best="$best" -v median="$median" -v b="$b" -v m="$m" -v w="$waits" 'BEGIN { print 100 * median / m, 100 * best / b, 100 * w }' >>$kind
    tail -n 1 $kind | xargs printf "round %d: 2 ranks by $kind reach %.1f%% of one rank (best steps %.1f%%), %.1f%% of a step waits for messages\n" "$round"
  done
done
for kind in data expert; do
  sort -g $kind | awk -v kind=$kind '{ r[NR] = $1 } END { printf "2 ranks by %s: median of %d rounds %.1f%%\n", kind, NR, r[int((NR + 1) / 2)] }'
done
