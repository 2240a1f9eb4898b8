#!/usr/bin/env bash
# 1, 2 and 4 ranks with the same global batch agree on the loss: 5 steps within 1e-5 in FP32, 40 steps within 1e-9 in FP64.
# Timeout: 600
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
for ranks in 1 2 4; do train $ranks fp32-$ranks --set run.steps=5 --set checkpoint.every=0; done
same_losses fp32-2 fp32-1 5 1e-5
same_losses fp32-4 fp32-1 5 1e-5
for ranks in 1 2 4; do train $ranks fp64-$ranks --set precision.compute=fp64 --set data.seq_length=16 --set checkpoint.every=0; done
same_losses fp64-2 fp64-1 40 1e-9
same_losses fp64-4 fp64-1 40 1e-9
