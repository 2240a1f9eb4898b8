#!/usr/bin/env bash
# Every quick case of `cadre bench` runs and gives positive numbers under its documented keys; an unknown case is refused. (Their
# values are nobody's test: they belong to the machine.)
# Timeout: 300
set -euo pipefail

# has CASE KEY ...: each key has at least one number, and all its numbers are positive.
has() {
  local what=$1 key; shift
  "$CADRE" bench "$what" --seconds 0.1 --json >"$what.json"
  grep -q "\"case\": \"$what\"" "$what.json" || { echo "$what: names another case"; cat "$what.json"; exit 1; }
  for key in "$@"; do
    grep -oE "\"$key\": *[-0-9.e+]+" "$what.json" | awk -v key="$what: $key" -F': *' '
      $2 <= 0 { bad = 1 } { n++ } END { if (bad || n == 0) { print key " has " n + 0 " numbers, positive: " !bad; exit 1 } }'
  done
}
has peer tokens_per_second best_tokens_per_second gflops peak_gflops share_of_peak peak_memory_bytes tensor_memory_bytes parameters
has ops calls seconds op_seconds optimizer_seconds step_seconds
has gemm forward_share input_gradient_share unpacked_input_gradient_share weight_gradient_share pack_seconds peak_gflops
has pipeline step_seconds predicted_seconds bubble predicted_bubble of_1f1b 1f1b_bubble interleaved_bubble
has skew even_seconds skewed_seconds copied_seconds
has optimizer adamw_bytes_per_second norm_bytes_per_second copy_bytes_per_second
has prepare bytes_per_second sentencepiece_bytes_per_second

"$CADRE" bench gemm --threads 1 --seconds 0.1 | grep -q '1 threads: share of the measured FP32 peak'
status=0
"$CADRE" bench speed >refused.log 2>&1 || status=$?
[ $status = 2 ] && grep -q speed refused.log || { cat refused.log; echo "an unknown case: status $status, wanted 2"; exit 1; }
