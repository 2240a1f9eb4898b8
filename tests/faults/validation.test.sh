#!/usr/bin/env bash
# Held-out files that are missing, damaged, or of another tokenizer, and commands that mpirun starts wrongly: refused before the first
# step, with the documented status and one message, on every rank.
# Timeout: 200
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
limit=60
head -c 9000 text.txt >small.txt
prepare() { "$CADRE" data prepare small.txt --invalid-utf8 replace "$@" >/dev/null; }
prepare --tokenizer bytes -o good
prepare --tokenizer bytes --append-eod true -o bad

# on RANKS STATUS COMMAND ...: of the program; one rank without mpirun.
on() {
  local ranks=$1 status=$2; shift 2
  if [ "$ranks" = 1 ]; then expect "$status" bad.log "$CADRE" "$@"; else expect "$status" bad.log "$CADRE_RUN" -n "$ranks" "$CADRE" "$@"; fi
}
# refused RANKS FILE TEXT ...: training with this held-out file is.
refused() {
  local ranks=$1 file=$2; shift 2
  rm -rf run
  on "$ranks" 3 train config.yaml --set "data.validation=[good, $file]" --set validation.tokens=0
  one_error bad.log "$@"
  [ ! -e run/metrics.jsonl ] || fail "it began to train"
}
for ranks in 1 2; do
  refused $ranks missing missing.bin "cadre data prepare"
  refused $ranks bad "bad: was made by tokenizer"
done
# Without metadata it is believed, until its last token is read: end of document, beyond the vocabulary. One rank meets it.
rm bad.meta.json
for ranks in 1 2 4; do
  refused $ranks bad bad.bin 256
done
head -c -1 good.bin >cut.bin; cp good.idx cut.idx
refused 2 cut cut
: >cut.bin
refused 2 cut cut

# On one rank only.
cat >per_rank <<'SH'
#!/usr/bin/env bash
cd "rank$OMPI_COMM_WORLD_RANK" && exec "$@"
SH
chmod +x per_rank; mkdir rank0 rank1
cp tokens.* good.* rank0; cp tokens.* rank1
one_rank() { expect 3 bad.log "$CADRE_RUN" -n 2 ./per_rank "$CADRE" "$@"; }
rm -rf run
one_rank train ../config.yaml --set "run.directory=$TMP/run" --set "data.validation=[good]"
one_error bad.log "rank 1: good"
cp good.* rank1; printf X | dd of=rank1/good.bin bs=1 seek=2000 conv=notrunc status=none
cmp -s rank0/good.bin rank1/good.bin && fail "the files do not differ"
one_rank train ../config.yaml --set "run.directory=$TMP/run" --set "data.validation=[good]"
one_error bad.log "rank 1" "rank 0" fingerprint

# Other commands under mpirun.
train 1 run --set run.steps=2
one_rank eval "$TMP/run" --data good; one_error bad.log "rank 1" "rank 0" fingerprint
rm rank1/good.*
one_rank eval "$TMP/run" --data good; one_error bad.log "rank 1: good"
for ranks in 1 2; do
  on $ranks 3 eval run --data missing; one_error bad.log missing.bin
  on $ranks 3 eval run --data bad; one_error bad.log bad.bin 256
  on $ranks 4 eval nothing --data good; one_error bad.log nothing
  on $ranks 2 eval run --data good --stride 65; one_error bad.log stride 64
  on $ranks 2 eval run --data good --batch-size 0; one_error bad.log batch-size
done
on 2 2 generate run --prompt x; one_error bad.log "2 were started" "without mpirun"
on 2 2 bench; one_error bad.log "2 were started" "without mpirun"
on 1 2 bench nothing; one_error bad.log "wanted one of"
expect 0 ok.log "$CADRE" generate run --prompt x --tokens 3
