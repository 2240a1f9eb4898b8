# Sourced by test scripts: token files of real text and a small config in the current folder, and ways to look at a run.

# Makes tokens.bin and tokens.idx: 300 kB of English, a token a byte.
make_tokens() {
  gzip -dc </usr/share/dictd/gcide.dict.dz | head -c 300000 >text.txt || true
  "$CADRE" data prepare text.txt --tokenizer bytes --invalid-utf8 replace -o tokens >/dev/null
}

# Writes config.yaml: two layers, four experts; 40 steps.
make_config() {
  cat >config.yaml <<'YAML'
run: {directory: run, seed: 3, steps: 40}
data: {tokenizer: bytes, train: [tokens], seq_length: 64}
model: {hidden_size: 64, num_layers: 2, num_heads: 4, num_kv_heads: 2, ffn_hidden_size: 96, qk_norm: true}
moe: {num_experts: 4, top_k: 2, shared_experts: 1}
batch: {global_batch_size: 8, micro_batch_size: 2}
optimizer: {lr: 3e-3, schedule: {kind: cosine, warmup_steps: 5}}
checkpoint: {every: 20, keep: 0}
monitor: {peak_gflops: 100}
YAML
}

# train RANKS DIRECTORY [ARGUMENT ...]: quiet unless it fails.
train() {
  local ranks=$1 directory=$2; shift 2
  "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set "run.directory=$directory" "$@" >"$directory.log" 2>&1 ||
    { local status=$?; tail -n 20 "$directory.log"; echo "training in $directory failed with status $status"; return $status; }
}

# losses DIRECTORY: a line "STEP LOSS" for each step.
losses() { sed -E 's/.*"loss":([0-9.e+-]+).*"step":([0-9]+).*/\2 \1/; t; s/.*"step":([0-9]+).*"loss":([0-9.e+-]+).*/\1 \2/' "$1/metrics.jsonl"; }

# same_losses A B STEPS TOLERANCE: relative, over the first steps; prints the largest difference.
same_losses() {
  join <(losses "$1" | sort) <(losses "$2" | sort) | sort -n | head -n "$3" | awk -v want="$3" -v tolerance="$4" -v what="$1 and $2" '
    { d = ($2 - $3) / $3; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
    END { printf "%s: largest relative difference %.3g over %d steps, allowed %g\n", what, worst, n, tolerance
          exit !(n == want && worst <= tolerance) }'
}

identical() { "$CADRE" checkpoint diff "$1" "$2" || { echo "$1 and $2 differ"; return 1; }; }
