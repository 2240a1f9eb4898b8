#!/usr/bin/env bash
# A rank that throws, wherever it is, ends the job at once, with its own message and exit code, while the others wait for it in their
# group of ranks, or for those that do.
# Timeout: 200
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
limit=60
export CADRE_TIMEOUT_SECONDS=600  # no deadline helps

# throws CASE STATUS TEXT ...: a case of throwing_rank.cpp ends soon, with one error that has every TEXT.
throws() {
  local name=$1 status=$2; shift 2
  expect "$status" "$name.log" "$CADRE_RUN" -n 4 "$CADRE_BUILD/tests/throwing_rank" "$name"
  one_error "$name.log" "$@"
}
throws data 3 "[rank 2] " "tokens.bin: token 300 at 17"
throws memory 6 "[rank 2] " "out of memory"
throws unexpected 70 "[rank 2] " "internal error: vector::at"
throws amid_an_exchange 3 "[rank 2] " "tokens.bin: token 300 at 18"
throws before_a_late_exchange 3 "[rank 2] " "tokens.bin: token 300 at 19"
CADRE_TIMEOUT_SECONDS=3 throws past_the_deadline 5 "timed out"
# Both ranks of the group hear of the difference, in the same words or in their own.
expect 5 group.log "$CADRE_RUN" -n 4 "$CADRE_BUILD/tests/throwing_rank" in_the_group
says group.log 'of expert, layer 4, f32 x 9'
says group.log 'f32 x 8'

# In training: a token beyond the vocabulary, that one rank alone meets, while its partner waits for its rows in the expert group.
{ head -c 5000 text.txt; printf '@@@@'; tail -c 5000 text.txt; } >two.txt
"$CADRE" data prepare two.txt --tokenizer bytes --append-eod true --invalid-utf8 replace --separator '@@@@' -o bad >/dev/null
rm bad.meta.json
expect 3 bad.log "$CADRE_RUN" -n 4 "$CADRE" train config.yaml --set "data.train=[bad]" --set parallel.expert_parallel=2
one_error bad.log bad.bin 256 "[rank "
