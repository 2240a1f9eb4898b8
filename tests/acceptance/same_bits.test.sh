#!/usr/bin/env bash
# Two runs agree bit for bit; so do recompute none, selective and full.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
last=checkpoints/step-00000012
short=(--set run.steps=12 --set checkpoint.every=0)
train 2 first "${short[@]}"
train 2 second "${short[@]}"
identical first/$last second/$last
for parts in norms attention expert_activations; do
  train 2 $parts "${short[@]}" --set "recompute={mode: selective, parts: [$parts]}"
done
train 2 full "${short[@]}" --set recompute=full
# The config is part of a checkpoint's state, so it alone may, and must, differ.
for run in norms attention expert_activations full; do
  "$CADRE" checkpoint diff first/$last $run/$last >diff.txt && { echo "recompute $run left no trace in the config"; exit 1; }
  [ "$(sed 's/:.*//' diff.txt)" = state.config ] || { cut -c1-150 diff.txt; echo "recompute $run changes more than the config"; exit 1; }
  same_losses first $run 12 0
done
