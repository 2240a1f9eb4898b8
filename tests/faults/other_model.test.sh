#!/usr/bin/env bash
# Resuming with another model is refused, naming the setting and both values; what is no part of the model may change.
# Timeout: 200
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
train 2 run --set run.steps=4
cp -r run before
# refused SECTION KEY OLD NEW
refused() {
  expect 4 run.log "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set run.directory=run --set "$1.$2=$4" --resume auto
  one_error run.log "$1: $2: $3" "$1: $2: $4" step-00000004
  cmp run/metrics.jsonl before/metrics.jsonl || fail "a refused run changed its metrics"
}
ranks=2 refused model hidden_size 64 32
ranks=1
refused model num_layers 2 3
refused moe num_experts 4 8
refused moe top_k 2 1
refused data seq_length 64 32
refused batch global_batch_size 8 16
refused run seed 3 4
refused precision compute fp32 fp64
refused optimizer kind adamw sgd
# Another tokenizer of the same kind and size.
head -c 100000 text.txt >one; tail -c 100000 text.txt >two
for text in one two; do
  "$CADRE" tokenizer train $text -o $text.model --vocab-size 500 >/dev/null
  "$CADRE" data prepare text.txt --tokenizer $text.model --invalid-utf8 replace -o $text.tokens >/dev/null
done
pieces() { echo "data={tokenizer: {kind: sentencepiece, path: $1.model}, train: [$1.tokens], seq_length: 64}"; }
train 1 pieces --set run.steps=2 --set "$(pieces one)"
expect 4 other.log "$CADRE" train config.yaml --set run.directory=pieces --set "$(pieces two)" --resume auto
one_error other.log "another tokenizer" step-00000002
expect 0 run.log "$CADRE" train config.yaml --set run.directory=run --set run.steps=6 --set optimizer.lr=1e-3 \
  --set checkpoint.keep=1 --set monitor.log_every=1 --resume must
says run.log "resumed from run/checkpoints/step-00000004"
