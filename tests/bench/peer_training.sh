# To be sourced: the peer case (docs/performance.md) as a training. After `peer_training STEPS` the current folder is scratch and has its
# config.yaml; `train RANKS DIRECTORY [ARGUMENT ...]` trains it.

peer_training() {
  local top; top=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
  export CADRE=$top/build/cadre CADRE_RUN=$top/launch/run CADRE_SOURCE=$top
  cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
  source "$top/tests/acceptance/fixture.sh"
  make_tokens
  cat >config.yaml <<YAML
run: {directory: run, steps: $1}
data: {tokenizer: bytes, train: [tokens], seq_length: 256}
model: {hidden_size: 256, num_layers: 4, num_heads: 4, vocab_size: 257, tie_embeddings: false}
moe: {num_experts: 8, top_k: 2, ffn_hidden_size: 512}
batch: {global_batch_size: 8, micro_batch_size: 4}
checkpoint: {every: 0}
monitor: {peak_gflops: 100, tensorboard: false}
YAML
}

# of DIRECTORY: best and median seconds of a step after the first four, and the share of it that waits for messages.
of() {
  tail -n +5 "$1/metrics.jsonl" | sed -E 's/.*"seconds":([0-9.e-]+).*"exposed_communication":([0-9.e-]+).*/\1 \2/' | sort -g |
    awk '{ t[NR] = $1; e[NR] = $2 } END { m = int((NR + 1) / 2); print t[1], t[m], e[m] / t[m] }'
}
