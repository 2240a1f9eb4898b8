#!/usr/bin/env bash
# On real text the balance loss keeps every expert of every layer above a quarter of its fair share over the last 100 steps.
# Timeout: 600
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
train 2 run --set run.steps=400 --set checkpoint.every=0 --set moe.num_experts=8
tail -n 100 run/metrics.jsonl | grep -o '"tokens":\[[0-9,]*\]' | tr -d '"tokens:[]' | awk -F, '
  { layer = NR % 2; for (e = 1; e <= NF; e++) { sum[layer, e] += $e; total[layer] += $e }; experts = NF }
  END { least = 1e9
        for (layer = 0; layer < 2; layer++) for (e = 1; e <= experts; e++) {
          share = sum[layer, e] / total[layer] * experts; if (share < least) least = share }
        printf "least used of %d experts: %.2f of its fair share over %d layer-steps\n", experts, least, NR
        exit !(NR == 200 && experts == 8 && least > 0.25) }'
