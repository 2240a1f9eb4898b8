#!/usr/bin/env bash
# Token files that are missing, damaged, or different on one rank, and text that cannot be prepared: status 3, one message that names the
# file, all ranks end.
# Timeout: 200
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
limit=60
# refused RANKS TEXT ...: training on bad.bin and bad.idx is.
refused() {
  local ranks=$1; shift
  if [ "$ranks" = 1 ]; then expect 3 bad.log "$CADRE" train config.yaml --set "data.train=[bad]"
  else expect 3 bad.log "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set "data.train=[bad]"; fi
  one_error bad.log "$@"
}
copy() { cp tokens.bin bad.bin; cp tokens.idx bad.idx; rm -rf run; }
poke() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
refused 2 bad.bin "cadre data prepare"
copy; poke bad.idx 0 X; refused 2 bad.idx
copy; poke bad.idx 9 '\x07'; refused 1 bad.idx 7 1
copy; poke bad.idx 17 '\x63'; refused 1 bad.idx 99
copy; poke bad.idx 18 '\xff\xff\xff\xff\xff\xff\xff\x7f'; refused 1 bad.idx
copy; poke bad.idx 34 '\xff\xff\xff\x7f'; refused 2 bad.idx  # the first sequence ends beyond the .bin
copy; poke bad.idx 34 '\xff\xff\xff\xff'; refused 1 bad.idx
copy; truncate -s -1 bad.idx; refused 1 bad.idx
copy; truncate -s 20 bad.idx; refused 1 bad.idx
copy; : >bad.idx; refused 1 bad.idx
copy; truncate -s -1 bad.bin; refused 1 bad
copy; : >bad.bin; refused 2 bad
copy; rm bad.bin; refused 1 bad.bin
copy; rm bad.idx; refused 1 bad.idx
# An odd number of bytes of two-byte tokens.
"$CADRE" data prepare text.txt --tokenizer bytes --append-eod true --invalid-utf8 replace -o wide >/dev/null
cp wide.idx bad.idx; head -c -1 wide.bin >bad.bin; refused 1 bad

# Fewer tokens than one sample.
head -c 30 text.txt >short.txt
"$CADRE" data prepare short.txt --tokenizer bytes -o bad >/dev/null
refused 2 bad

# A token beyond the vocabulary, in the middle, so that one rank alone meets it in the midst of training.
{ head -c 5000 text.txt; printf '@@@@'; tail -c 5000 text.txt; } >two.txt
"$CADRE" data prepare two.txt --tokenizer bytes --append-eod true --invalid-utf8 replace --separator '@@@@' -o bad >/dev/null
# Metadata would tell at once that another tokenizer made the file.
refused 2 "was made by tokenizer"
rm bad.meta.json
for prefetch in 0 4; do
  rm -rf run
  began=$SECONDS
  expect 3 bad.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set "data.train=[bad]" --set data.prefetch=$prefetch \
    --set checkpoint.every=1
  ((SECONDS - began <= 30)) || fail "took $((SECONDS - began)) s to end"
  one_error bad.log bad.bin 256 "[rank "
  [ -z "$(newest run)" ] || valid run/checkpoints
done

# Another file, or none, on one rank only; the same name everywhere.
cat >per_rank <<'SH'
#!/usr/bin/env bash
cd "rank$OMPI_COMM_WORLD_RANK" && exec "$CADRE" train "$TMP/config.yaml" --set "run.directory=$TMP/run"
SH
chmod +x per_rank; mkdir rank0 rank1; cp tokens.* rank0
expect 3 bad.log "$CADRE_RUN" -n 2 ./per_rank; one_error bad.log "rank 1: tokens"
cp tokens.* rank1; printf X | dd of=rank1/tokens.bin bs=1 seek=2000 conv=notrunc status=none
cmp -s rank0/tokens.bin rank1/tokens.bin && fail "the files do not differ"
expect 3 bad.log "$CADRE_RUN" -n 2 ./per_rank; one_error bad.log "rank 1" "rank 0" fingerprint

# Text.
printf 'good\nbad \xff text\n' >invalid.txt
expect 3 bad.log "$CADRE" data prepare invalid.txt --tokenizer bytes -o out; one_error bad.log invalid.txt
expect 0 ok.log "$CADRE" data prepare invalid.txt --tokenizer bytes --invalid-utf8 replace -o out
rm out.*
printf '{"text": "fine"}\n{"text": 3}\n' >lines.jsonl
expect 3 bad.log "$CADRE" data prepare lines.jsonl --tokenizer bytes -o out; one_error bad.log lines.jsonl text
printf '{"text": "fine"}\nnot json\n' >lines.jsonl
expect 3 bad.log "$CADRE" data prepare lines.jsonl --tokenizer bytes -o out; one_error bad.log lines.jsonl
{ printf '{"text": "'; head -c 270000000 /dev/zero | tr '\0' a; printf '"}\n'; } >giant.jsonl
expect 3 bad.log "$CADRE" data prepare giant.jsonl --tokenizer bytes -o out; one_error bad.log giant.jsonl bytes; rm giant.jsonl
: >empty.txt
expect 3 bad.log "$CADRE" data prepare empty.txt --tokenizer bytes -o out; one_error bad.log empty.txt
expect 3 bad.log "$CADRE" data prepare missing.txt --tokenizer bytes -o out; one_error bad.log missing.txt
[ -z "$(ls out.* 2>/dev/null)" ] || fail "a refused text left token files"
# One line of text, however long, is no error.
head -c 30000000 /dev/zero | tr '\0' a >line.txt
expect 0 ok.log "$CADRE" data prepare line.txt --tokenizer bytes -o out
