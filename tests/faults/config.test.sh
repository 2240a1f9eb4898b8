#!/usr/bin/env bash
# A bad config or layout is refused on every rank with status 2 and one message: file and line, key, what is wrong, a suggestion.
# Timeout: 200
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
limit=20
# refused RANKS TEXT ...: bad.yaml is refused, and says so, by `train` on that many ranks.
refused() {
  local ranks=$1; shift
  if [ "$ranks" = 1 ]; then expect 2 bad.log "$CADRE" train bad.yaml
  else expect 2 bad.log "$CADRE_RUN" -n "$ranks" "$CADRE" train bad.yaml; fi
  one_error bad.log "$@"
  [ ! -e run ] || fail "a refused config made its directory"
}
edited() { sed "$1" config.yaml >bad.yaml; }
edited 's/hidden_size: 64/hiden_size: 64/'; refused 2 bad.yaml:3 'did you mean "hidden_size"'; refused 1 bad.yaml:3
edited 's/^moe:/mo:/'; refused 1 bad.yaml:4 '"moe"'
edited 's/num_layers: 2/num_layers: two/'; refused 1 bad.yaml:3 model.num_layers two
edited 's/num_layers: 2/num_layers: [2]/'; refused 1 bad.yaml:3 model.num_layers
edited 's/num_layers: 2/num_layers: 2.5/'; refused 1 bad.yaml:3 model.num_layers 2.5
edited 's/num_layers: 2/num_layers: -1/'; refused 1 bad.yaml:3 model.num_layers -1
edited 's/lr: 3e-3/lr: .nan/'; refused 1 bad.yaml:6 optimizer.lr
edited 's/keep: 0/keep: 1001/'; refused 1 bad.yaml:7 checkpoint.keep 1001 1000
edited 's/kind: cosine/kind: cosin/'; refused 1 bad.yaml:6 cosine
edited 's/seed: 3/seed: 3, seed: 4/'; refused 1 bad.yaml:1 seed
edited 's/seed: 3/seed: 3/;$a moe: {num_experts: 4}'; refused 2 bad.yaml:9 moe
edited 's/num_heads: 4/num_heads: 3/'; refused 1 3
edited 's/top_k: 2/top_k: 5/'; refused 1 5 4
edited 's/micro_batch_size: 2/micro_batch_size: 3/'; refused 2 bad.yaml:5 micro_batch_size 3 8
: >bad.yaml; refused 2 bad.yaml
echo '- 1' >bad.yaml; refused 1 bad.yaml:1 mapping
printf 'run: {seed: 1\nmodel: [' >bad.yaml; refused 2 bad.yaml
printf 'run: \xff\xfe\n' >bad.yaml; refused 1 bad.yaml
head -c 100000 /dev/urandom >bad.yaml; refused 1 bad.yaml
{ printf 'run: '; printf '[%.0s' $(seq 20000); } >bad.yaml; refused 2 bad.yaml
{
  echo 'a: &a [x, x, x, x, x, x, x, x, x, x]'  # ten times more with each line
  for pair in ab bc cd de ef fg gh hi; do
    p=${pair:0:1} n=${pair:1:1}
    echo "$n: &$n [*$p, *$p, *$p, *$p, *$p, *$p, *$p, *$p, *$p, *$p]"
  done
} >bad.yaml; refused 2 bad.yaml
echo 'include: bad.yaml' >bad.yaml; refused 2 bad.yaml:1 cycle
echo 'include: other.yaml' >bad.yaml; echo 'include: bad.yaml' >other.yaml; refused 1 other.yaml:1 cycle
echo 'include: nowhere.yaml' >bad.yaml; refused 1 bad.yaml:1 nowhere.yaml
rm bad.yaml; refused 2 bad.yaml "No such file"

# Layouts that cannot be.
layout() { expect 2 bad.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=bad "${@:2}"; one_error bad.log "$1"; }
layout "mpirun -n 3" --set parallel.data_parallel=3
layout "e.g. 30" --set batch.global_batch_size=15 --set batch.micro_batch_size=15
layout "did you mean" --set modle.hidden_size=3
layout "global_batch_size" --set batch.global_batch_size=2
expect 2 bad.log "$CADRE_RUN" -n 3 "$CADRE" train config.yaml --set run.directory=bad
one_error bad.log global_batch_size 3
[ ! -e bad ] || fail "a refused layout made its directory"

# Unknown options and commands.
expect 2 bad.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --resme auto; one_error bad.log --resme
expect 2 bad.log "$CADRE_RUN" -n 2 "$CADRE" trian config.yaml; one_error bad.log 'did you mean "train"'

# A config that only one rank cannot read, or that is another one there, is refused by all.
cat >per_rank <<'SH'
#!/usr/bin/env bash
cd "rank$OMPI_COMM_WORLD_RANK" && exec "$CADRE" train config.yaml --set "run.directory=$TMP/bad" --set "data.train=[$TMP/tokens]"
SH
chmod +x per_rank; mkdir rank0 rank1; cp config.yaml rank0
expect 2 bad.log "$CADRE_RUN" -n 2 ./per_rank; one_error bad.log "rank 1: config.yaml" "No such file"
sed 's/lr: 3e-3/lr: 1e-3/' config.yaml >rank1/config.yaml
expect 2 bad.log "$CADRE_RUN" -n 2 ./per_rank; one_error bad.log "config" "rank 1" "rank 0"
