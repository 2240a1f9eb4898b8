#!/usr/bin/env bash
# A Slurm cluster of two hosts runs launch/slurm/train.sbatch: it is signalled before its time limit, saves, is queued again, starts on both
# hosts, and finishes with what an uninterrupted run has, bit for bit. A config that is refused ends the job with its status, once.
# Timeout: 250
set -euo pipefail
source "$CADRE_SOURCE/tests/launch/hosts.sh"
on_own_network "$0" munged slurmctld slurmd sbatch
make_tokens; make_config
add_host host-a 2
add_host host-b 3

# The daemons, one munge key, and state of the cluster's own. A job may come back after 5 seconds instead of 2 minutes (cred_expire).
head -c 1024 /dev/urandom >munge.key
cat >slurm.conf <<EOF
ClusterName=test
SlurmctldHost=login
SlurmUser=root
AuthInfo=socket=/run/munge/socket,cred_expire=5
StateSaveLocation=$PWD/state
SlurmctldPidFile=/run/slurmctld.pid
SlurmctldLogFile=$PWD/slurmctld.log
SlurmdPidFile=/run/slurmd.pid
SlurmdSpoolDir=$PWD/spool-%n
SlurmdLogFile=$PWD/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
ReturnToService=2
NodeName=host-a NodeAddr=10.77.0.2 CPUs=2
NodeName=host-b NodeAddr=10.77.0.3 CPUs=2
PartitionName=all Nodes=host-a,host-b Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF=$PWD/slurm.conf
munge='mkdir -p /run/munge && install -m 400 munge.key /run/munge/key && munged --key-file=/run/munge/key --socket=/run/munge/socket \
  --pid-file=/run/munge/pid --log-file=/run/munge/log --seed-file=/run/munge/seed'
mkdir state
bash -c "$munge"
slurmctld -f "$SLURM_CONF"
for host in host-a host-b; do on_host $host bash -c "$munge && slurmd -f $SLURM_CONF -N $host"; done
idle() { [ "$(sinfo -h -t idle -o %D)" = 2 ]; }
soon idle || skip "Slurm does not run here: $(tail -qn 1 slurmctld.log slurmd-*.log | xargs -d '\n')"

# submit NAME: trains NAME.yaml, one rank on each host, for a minute at a time.
submit() {
  CADRE_HOME=$CADRE_SOURCE sbatch --parsable --nodes=2 --ntasks-per-node=1 --time=1 --signal=B:USR1@25 --output="$1.log" \
    "$CADRE_SOURCE/launch/slurm/train.sbatch" "$1.yaml"
}
state_is() { scontrol show job -o "$1" | grep -q "JobState=$2 .*ExitCode=$3"; }
# write_config NAME STEP: NAME.yaml trains in the folder NAME up to the step.
write_config() {
  cat >"$1.yaml" <<EOF
include: config.yaml
run: {directory: $1, steps: 100000, stop_after: $2}
checkpoint: {every: 1000}
device: {threads: 1}
EOF
}
saved_all() { [ "$(newest "$1")" = "$1/checkpoints/step-$(printf %08d "$(steps_done "$1")")" ] || fail "the last step is not saved" "$1.log"; }

# Refused.
write_config refused 0
id=$(submit refused)
until_true "the end of the job" state_is "$id" FAILED 2:0
one_error refused.log "run.stop_after"

# Told to save and end.
write_config told null
id=$(submit told)
until_true "steps" has_step told 4
scancel --batch --signal=TERM "$id"
until_true "the end of the job" state_is "$id" FAILED 143:0
saved_all told

# Without mpirun.
write_config direct 3
SLURM_PMIX_TMPDIR=$PWD/scratch srun --mpi=pmix --nodes=2 --ntasks-per-node=2 "$CADRE" train direct.yaml >direct.log 2>&1 ||
  fail "srun ended with status $?" direct.log
says direct.log "host-b: ranks 2-3 on CPUs"
saved_all direct

# Signalled by its limit. Slurm looks at limits every 30 seconds, and signals up to 30 seconds early: after 5 to 35 seconds here.
write_config limit null
id=$(submit limit)
until_true "the signal" grep -q "back to the queue" limit.log
until_true "the job in the queue" state_is "$id" PENDING 0:0
saved_all limit
end=$(($(steps_done limit) + 4))
write_config limit $end
until_true "the end of the job" state_is "$id" COMPLETED 0:0
says limit.log "train.sbatch: job $id, start 2, 2 ranks on host-a,host-b"
says limit.log "host-b: rank 1 on CPUs"
write_config whole $end
"$CADRE_RUN" -n 2 "$CADRE" train whole.yaml >whole.log 2>&1
name=step-$(printf %08d $end)
identical whole/checkpoints/"$name" limit/checkpoints/"$name"
[ "$(losses limit | cut -d ' ' -f 1)" = "$(seq $end)" ] || fail "steps are missing or twice in the metrics"
