#!/usr/bin/env bash
# Presets: each at full size has the number of parameters that its file says (within 5%: attention stands in for other kinds) and can be planned;
# each has a twin that trains on two ranks, and the gradients of its structure are proved on several layouts.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens
count=0
for twin in "$CADRE_SOURCE"/configs/presets/*-tiny.yaml; do
  preset=${twin%-tiny.yaml}.yaml name=$(basename "${twin%-tiny.yaml}")
  count=$((count + 1))
  wanted=$(grep -oE 'Parameters: [0-9.e]+' "$preset" | cut -d ' ' -f 2) || { echo "$name: its file says no number of parameters"; exit 1; }
  grep -qE 'Source: |Not a published model|as the press' "$preset" || { echo "$name: its file says no source"; exit 1; }
  got=$("$CADRE" plan "$preset" --ranks 1 --device b200 --layout dp=1 --json | sed -n 's/.*"parameters": \([0-9]*\).*/\1/p')
  awk -v g="$got" -v w="$wanted" 'BEGIN { exit !(g > 0.95 * w && g < 1.05 * w) }' || { echo "$name: $got parameters, its file says $wanted"; exit 1; }
  "$CADRE" plan "$preset" --ranks 1024 --device b200 >"$name.plan"
  grep -qE '^dp=' "$name.plan" || { cat "$name.plan"; echo "$name: no layout of 1024 ranks fits"; exit 1; }
  "$CADRE_RUN" -n 2 "$CADRE" train "$twin" --set run.directory="$name" --set run.steps=3 --set 'data.train=[tokens]' --set parallel.expert_parallel=2 \
    >"$name.log" 2>&1 || { tail -n 5 "$name.log"; echo "$name: its twin does not train"; exit 1; }
  "$CADRE" verify "$twin" --shrink --least-ranks 4 --ranks 4 >"$name.verify" 2>&1 || { tail -n 15 "$name.verify"; echo "$name: a wrong gradient"; exit 1; }
done
((count >= 11)) || { echo "only $count presets"; exit 1; }
