#!/usr/bin/env bash
# A SLURM cluster of this machine alone, for tests: munged, slurmctld and slurmd with all their files in FOLDER.
#
#   bash tests/slurm/cluster.sh start FOLDER     then: export SLURM_CONF=FOLDER/slurm.conf
#   bash tests/slurm/cluster.sh stop FOLDER
#
# Needs root and Debian's packages slurm-wlm and munge.
set -euo pipefail

usage() {
    echo "usage: cluster.sh start|stop FOLDER" >&2
    exit 2
}

[[ $# == 2 ]] || usage
folder="$(realpath -m -- "$2")"

stop() {
    local file pid
    # Jobs would outlive the daemons.
    export SLURM_CONF="$folder/slurm.conf"
    if [[ -f "$folder/slurmctld.pid" ]] && timeout 10 scancel --quiet --me 2>/dev/null; then
        for _ in {1..100}; do
            [[ -z "$(timeout 10 squeue --noheader --me 2>/dev/null)" ]] && break
            sleep 0.1
        done
    fi
    local pids=()
    for file in slurmd slurmctld munged; do
        [[ -f "$folder/$file.pid" ]] || continue
        pid="$(<"$folder/$file.pid")"
        kill "$pid" 2>/dev/null && pids+=("$pid")
    done
    for _ in {1..100}; do
        kill -0 ${pids[@]+"${pids[@]}"} 2>/dev/null || break # none is left
        sleep 0.1
    done
}

free_ports() {
    python3 -c '
import socket
sockets = [socket.socket(), socket.socket()]
for one in sockets:
    one.bind(("", 0))
print(*(one.getsockname()[1] for one in sockets))'
}

start() {
    local node memory controller_port node_port
    node="$(hostname -s)"
    memory="$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
    read -r controller_port node_port < <(free_ports)
    mkdir -p "$folder"/{state,spool,log}
    chmod 755 "$folder"
    head -c 128 /dev/urandom >"$folder/munge.key"
    chmod 600 "$folder/munge.key"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmctldPort=$controller_port
SlurmdPort=$node_port
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
RebootProgram=/bin/true
KillWait=5
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
NodeName=$node NodeAddr=127.0.0.1 Sockets=$(nproc) CoresPerSocket=1 ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
    trap 'grep -h -m 1 error "$folder"/log/*.log >&2 || true; stop' ERR
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed"
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld
    slurmd -N "$node"
    for _ in {1..600}; do
        if [[ "$(sinfo --noheader --format=%t 2>/dev/null)" == idle ]]; then
            return
        fi
        sleep 0.1
    done
    echo "error: the node did not become idle; logs: $folder/log" >&2
    stop
    exit 1
}

case "$1" in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac
