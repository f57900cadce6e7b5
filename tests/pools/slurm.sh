#!/bin/bash
# A real Slurm 22.05 (munged, slurmctld, slurmd) on one Debian 12 machine, from unpacked packages: nothing is installed,
# no systemd, no cgroup plugin, no accounting (so no sacct). Loopback only. Run it as root; for tests only.
#
#   eval "$(slurm.sh up)"   unpack if absent, start, wait until the node is idle, set the environment
#   slurm.sh build          only what is absent of the first step
#   slurm.sh start NAME     start slurmctld, slurmd or munged again after it was killed; "slurmd NODE": that of a further node
#   slurm.sh kill NAME [SIGNAL]      one daemon, "slurmd-NODE" for that of a further node
#   slurm.sh node-kill NODE [SIGNAL] a further node dies at once, with all that runs there (default KILL)
#   slurm.sh resume         use nodes again that Slurm has drained, as an administrator does: what a killed slurmctld or
#                           munged had just started is started twice, and the node is drained as "Duplicate jobid"
#   slurm.sh down           cancel all jobs and stop the daemons
#
# What clients take: POOL/slurm.conf and the commands in POOL/bin.
# Variables: PREFIX (the unpacked tree), POOL (state), CPUS, MEMORY (MiB), PORT (from here on),
# NODES (names of further nodes of this machine, started with the others), ARRAY (MaxArraySize).
set -euo pipefail

STATE=${TMPDIR:-/tmp}
PREFIX=${PREFIX:-$STATE/slurm-bookworm}
POOL=${POOL:-$STATE/slurm-pool}
PORT=${PORT:-16817}
CPUS=${CPUS:-2}
MEMORY=${MEMORY:-1000}
NODES=${NODES:-}
ARRAY=${ARRAY:-10001}
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
# what ran on a lost node begins again after as many seconds, not after the two minutes of the default
AuthInfo=socket=$POOL/munge/munge.sock,cred_expire=10
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
MaxArraySize=$ARRAY
MaxJobCount=20000
KillWait=2
# a node that is silent this long is down, and what ran there runs again
SlurmdTimeout=10
# no more cores than the machine has were asked for: tests look at numbers
SlurmdParameters=config_overrides
C
  local port=$((PORT + 1)) node
  for node in "$HOST" $NODES; do
    echo "NodeName=$node NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$port CPUs=$CPUS RealMemory=$MEMORY" \
      "State=UNKNOWN" >> "$SLURM_CONF"
    port=$((port + 1))
  done
  echo "PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO" >> "$SLURM_CONF"
  sed -i "s#^SlurmdSpoolDir=.*#SlurmdSpoolDir=$POOL/d/%n#; s#^SlurmdPidFile=.*#SlurmdPidFile=$POOL/slurmd-%n.pid#;
    s#^SlurmdLogFile=.*#SlurmdLogFile=$POOL/slurmd-%n.log#" "$SLURM_CONF"
  commands
}

commands() { # what a client runs, without anything in its environment
  local name
  mkdir -p "$POOL/bin"
  for name in sbatch scancel scontrol sinfo squeue; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s SLURM_CONF=${SLURM_CONF:-%s} exec %s "$@"\n' "$LIB:$LIB/slurm-wlm" "$SLURM_CONF" \
      "$PREFIX/usr/bin/$name" > "$POOL/bin/$name"
    chmod 755 "$POOL/bin/$name"
  done
}

start() { # start NAME [NODE]
  case $1 in
    munged) "$PREFIX/usr/sbin/munged" --force --key-file="$POOL/munge.key" --socket="$POOL/munge/munge.sock" \
      --log-file="$POOL/munged.log" --pid-file="$POOL/munged.pid" --seed-file="$POOL/munge.seed" >> "$POOL/start.out" 2>&1 ;;
    slurmctld) "$PREFIX/usr/sbin/slurmctld-wlm" -f "$SLURM_CONF" >> "$POOL/start.out" 2>&1 ;;
    slurmd)
      mkdir -p "$POOL/d/${2:-$HOST}"
      # In a pid namespace, so that node-kill ends all that runs there too.
      setsid unshare --pid --mount-proc --fork --kill-child "$PREFIX/usr/sbin/slurmd-wlm" -D -N "${2:-$HOST}" \
        -f "$SLURM_CONF" -d "$PREFIX/usr/sbin/slurmstepd-wlm" </dev/null >"$POOL/slurmd-${2:-$HOST}.out" 2>&1 &
      echo $! > "$POOL/node-${2:-$HOST}.pid" ;;
    *) die "no daemon $1" ;;
  esac
}

alive() { # alive NAME: is the daemon of that pid file running?
  [ -s "$POOL/$1.pid" ] && grep -Eq "^(unshare|slurmctld|munged)" "/proc/$(cat "$POOL/$1.pid")/comm" 2>/dev/null
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
  start munged
  start slurmctld
  local node
  for node in "$HOST" $NODES; do start slurmd "$node"; done
  for _ in $(seq 150); do
    if sinfo -h -o %t 2>/dev/null | grep -q idle; then client_environment; return; fi
    sleep 0.2
  done
  die "not ready after 30 s: see $POOL/slurmctld.log and $POOL/slurmd.log"
}

node_kill() { # the namespace's first process: all others go with it
  if alive "node-$1"; then
    pkill -"${2:-KILL}" -P "$(cat "$POOL/node-$1.pid")" || true
  fi
}

kill_one() { # kill_one NAME [SIGNAL]
  case $1 in
    slurmd) node_kill "$HOST" "${2:-KILL}" ;;
    slurmd-*) node_kill "${1#slurmd-}" "${2:-KILL}" ;;
    *) kill -"${2:-KILL}" "$(cat "$POOL/$1.pid")" ;;
  esac
}

resume() {
  local node reason
  sinfo -h -N -t drain -o "%N %E" | while read -r node reason; do
    scontrol update NodeName="$node" State=RESUME
    echo "$node: $reason"
  done
}

down() {
  local name file
  if alive slurmctld && alive munged && [ -n "$(timeout 10 squeue -h)" ]; then
    timeout 10 squeue -h -o %A | sort -u | timeout 10 xargs -r scancel --full --quiet || true
    for _ in $(seq 25); do [ -n "$(timeout 10 squeue -h)" ] || break; sleep 0.2; done
  fi
  for file in "$POOL"/node-*.pid; do
    [ -e "$file" ] || continue
    name=$(basename "$file" .pid)
    node_kill "${name#node-}" KILL
  done
  for name in slurmctld munged; do
    if alive "$name"; then kill -CONT "$(cat "$POOL/$name.pid")"; kill "$(cat "$POOL/$name.pid")"; fi
  done
  for _ in $(seq 50); do
    alive slurmctld || alive munged || return 0
    sleep 0.2
  done
  die "a daemon did not stop: see $POOL/*.pid"
}

case ${1:-} in
  up) up ;;
  down) down ;;
  resume) resume ;;
  build) build ;;
  start) start "${2:?NAME}" "${3:-}" ;;
  kill) kill_one "${2:?NAME}" "${3:-KILL}" ;;
  node-kill) node_kill "${2:?NODE}" "${3:-KILL}" ;;
  *) sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
