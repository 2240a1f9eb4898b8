#!/usr/bin/env bash
# The peer case of docs/performance.md in Cadre and in PyTorch, in alternation, and the ratios of their medians.
#   tests/bench/peers/compare.sh [--rounds N] [--seconds S] [--threads T] [--python PATH] [--cadre PATH] [-- OPTION...]
# PATH of --python: an interpreter with PyTorch (Debian: python3-torch). Each OPTION goes to pytorch_moe.py.
# PEER_PREFIX, e.g. "nice -n -15", goes before both commands; PEER_PRELOAD is LD_PRELOAD for PyTorch alone.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
cadre=$here/../../../build/cadre python=/usr/bin/python3 rounds=3 seconds=10 threads=2 script_options=()
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --cadre) cadre=$2; shift 2 ;;
    --) shift; script_options=("$@"); break ;;
    -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
    *) echo "compare.sh: unknown argument '$1'; see --help" >&2; exit 2 ;;
  esac
done
"$python" -c 'import torch' 2>/dev/null || { echo "compare.sh: $python has no torch; Debian: apt-get install python3-torch" >&2; exit 1; }

# Best settings found for PyTorch 1.13: Debian's OpenBLAS knows this processor only when told its kind, and glibc must
# not give large blocks back to the kernel, because fresh pages are slow to touch.
read -ra prefix <<<"${PEER_PREFIX:-}"
run_cadre() { "${prefix[@]}" "$cadre" bench peer --json --threads "$threads" --seconds "$seconds"; }
run_pytorch() {
  "${prefix[@]}" env OMP_NUM_THREADS="$threads" OPENBLAS_CORETYPE="$(core_type)" \
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=67108864 LD_PRELOAD="${PEER_PRELOAD:-}" \
    "$python" "$here/pytorch_moe.py" --threads "$threads" --seconds "$seconds" "${script_options[@]}"
}
core_type() { if grep -q avx512f /proc/cpuinfo; then echo SkylakeX; else echo Haswell; fi; }

# Numbers after "KEY": in JSON text.
field() { grep -oE "\"$1\": *[0-9.e+]+" | sed -E 's/.*: *//'; }
median() { sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for ((round = 1; round <= rounds; ++round)); do
  for side in cadre pytorch; do
    "run_$side" >"$scratch/answer"
    for key in tokens_per_second best_tokens_per_second peak_memory_bytes; do
      field "$key" <"$scratch/answer" >>"$scratch/$side.$key"
    done
    printf '%-8s round %d: %7.0f tokens/s (best %7.0f), %5.0f MB\n' "$side" "$round" \
      "$(tail -n 1 "$scratch/$side.tokens_per_second")" "$(tail -n 1 "$scratch/$side.best_tokens_per_second")" \
      "$(awk 'END {print $1 / 1e6}' "$scratch/$side.peak_memory_bytes")"
  done
done
ratio() { awk -v a="$(median <"$scratch/cadre.$1")" -v b="$(median <"$scratch/pytorch.$1")" 'BEGIN {printf "%.2f", a / b}'; }
echo "tokens/s: $(ratio tokens_per_second) x PyTorch's (best steps: $(ratio best_tokens_per_second) x); peak memory: $(ratio peak_memory_bytes) x"
