#!/bin/bash
# A real Slurm 22.05 (munged, slurmctld, slurmd) on one Debian 12 machine, from unpacked packages: nothing is installed,
# no systemd, no cgroup plugin, no accounting (so no sacct). Loopback only. Run it as root; for tests only.
#
#   eval "$(slurm.sh up)"   unpack if absent, start, wait until the node is idle, set the environment
#   slurm.sh down           cancel all jobs and stop the daemons
#
# Variables: PREFIX (the unpacked tree), POOL (state), CPUS, MEMORY (MiB), PORT (this and the next one).
set -euo pipefail

STATE=${TMPDIR:-/tmp}
PREFIX=${PREFIX:-$STATE/slurm-bookworm}
POOL=${POOL:-$STATE/slurm-pool}
PORT=${PORT:-16817}
CPUS=${CPUS:-2}
MEMORY=${MEMORY:-1000}
HOST=$(hostname -s)
LIB=$PREFIX/usr/lib/$(uname -m)-linux-gnu
PACKAGES="slurmctld slurmd slurm-client slurm-wlm-basic-plugins libslurm38 munge libmunge2 libhwloc15 liblua5.1-0
  libpmix2"

export SLURM_CONF=$POOL/slurm.conf PATH=$PREFIX/usr/bin:$PATH LD_LIBRARY_PATH=$LIB:$LIB/slurm-wlm

die() { echo "slurm: $*" >&2; exit 1; }

build() {
  local deb
  [ -e "$PREFIX/.ok" ] && return 0
  mkdir -p "$PREFIX/debs"
  # shellcheck disable=SC2086
  (cd "$PREFIX/debs" && apt-get download -qq -o APT::Sandbox::User=root $PACKAGES)
  for deb in "$PREFIX"/debs/*.deb; do dpkg-deb -x "$deb" "$PREFIX"; done
  touch "$PREFIX/.ok"
}

config() {
  mkdir -p "$POOL"/{ctld,d,munge}
  chmod 755 "$POOL"
  chmod 711 "$POOL/munge"
  [ -s "$POOL/munge.key" ] || (umask 077; head -c 1024 /dev/urandom > "$POOL/munge.key")
  cat > "$SLURM_CONF" <<C
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$POOL/munge/munge.sock
PluginDir=$LIB/slurm-wlm
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0,sched_min_interval=0
StateSaveLocation=$POOL/ctld
SlurmdSpoolDir=$POOL/d
SlurmctldPidFile=$POOL/slurmctld.pid
SlurmdPidFile=$POOL/slurmd.pid
SlurmctldLogFile=$POOL/slurmctld.log
SlurmdLogFile=$POOL/slurmd.log
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ReturnToService=2
JobCompType=jobcomp/filetxt
JobCompLoc=$POOL/jobcomp.txt
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MaxArraySize=10001
MaxJobCount=20000
KillWait=5
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEMORY State=UNKNOWN
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
C
}

alive() { # alive NAME: is the daemon of that pid file running?
  [ -s "$POOL/$1.pid" ] && grep -q "^$1" "/proc/$(cat "$POOL/$1.pid")/comm" 2>/dev/null
}

client_environment() {
  echo "export SLURM_CONF=$SLURM_CONF PATH=$PREFIX/usr/bin:\$PATH LD_LIBRARY_PATH=$LIB:$LIB/slurm-wlm"
}

up() {
  [ "$(id -u)" = 0 ] || die "run it as root"
  if alive slurmctld; then
    echo "slurm: already up in $POOL" >&2
    client_environment
    return
  fi
  build
  config
  "$PREFIX/usr/sbin/munged" --force --key-file="$POOL/munge.key" --socket="$POOL/munge/munge.sock" \
    --log-file="$POOL/munged.log" --pid-file="$POOL/munged.pid" --seed-file="$POOL/munge.seed"
  "$PREFIX/usr/sbin/slurmctld-wlm" -f "$SLURM_CONF"
  "$PREFIX/usr/sbin/slurmd-wlm" -f "$SLURM_CONF" -d "$PREFIX/usr/sbin/slurmstepd-wlm"
  for _ in $(seq 150); do
    if sinfo -h -o %t 2>/dev/null | grep -q idle; then client_environment; return; fi
    sleep 0.2
  done
  die "not ready after 30 s: see $POOL/slurmctld.log and $POOL/slurmd.log"
}

down() {
  local name
  if alive slurmctld && [ -n "$(squeue -h)" ]; then
    squeue -h -o %A | sort -u | xargs -r scancel --full --quiet || true
    for _ in $(seq 50); do [ -n "$(squeue -h)" ] || break; sleep 0.2; done
  fi
  for name in slurmd slurmctld munged; do
    if alive "$name"; then kill "$(cat "$POOL/$name.pid")"; fi
  done
  for _ in $(seq 50); do
    alive slurmd || alive slurmctld || alive munged || return 0
    sleep 0.2
  done
  die "a daemon did not stop: see $POOL/*.pid"
}

case ${1:-} in
  up) up ;;
  down) down ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
