#!/usr/bin/env bash
# A run that diverges ends with status 7, naming what is not finite; the newest checkpoint is whole and from before.
# Timeout: 100
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
wild=(--set optimizer.lr=1e6 --set optimizer.clip_norm=null --set optimizer.schedule=constant)
train 2 run --set run.steps=5 --set optimizer.schedule=constant
cp -r run/checkpoints/step-00000005 before
expect 7 run.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=run "${wild[@]}" --set checkpoint.every=1 --resume must
one_error run.log "not finite" "step" "optimizer.lr"
valid run/checkpoints
identical before run/checkpoints/step-00000005
if "$CADRE" eval "$(newest run)" --data tokens --batch-size 8 >eval.log 2>&1; then silent_about eval.log nan; fi
# With sane settings it goes on from the checkpoint before.
train 2 again --set run.steps=8 --set optimizer.schedule=constant --resume run/checkpoints/step-00000005
valid again/checkpoints
