#!/usr/bin/env bash
# Kafka, PostgreSQL, MariaDB and Galera as clusters of two or three nodes on this machine, to try failovers on. The
# single servers of services.sh are not touched: other ports, other folders. See README.md.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
STATE=$(dirname "$(dirname "$HERE")")/var/services
LOG=$STATE/log
RUN=$STATE/run
CLUSTERS='' SOCKETS='' # set by make_place and make_state
readonly HERE STATE LOG RUN
readonly ALL=(kafka postgres mariadb galera)
readonly ANSWER_DEADLINE_S=90
PATH=$PATH:/usr/sbin:/sbin

# shellcheck source=lib.sh
source "$HERE/lib.sh"
# shellcheck source=kafka.sh
source "$HERE/kafka.sh"
# shellcheck source=mariadb.sh
source "$HERE/mariadb.sh"
# shellcheck source=postgres.sh
source "$HERE/postgres.sh"
# shellcheck source=cluster-kafka.sh
source "$HERE/cluster-kafka.sh"
# shellcheck source=cluster-postgres.sh
source "$HERE/cluster-postgres.sh"
# shellcheck source=cluster-mariadb.sh
source "$HERE/cluster-mariadb.sh"
# shellcheck source=cluster-galera.sh
source "$HERE/cluster-galera.sh"

usage() {
  cat <<'EOT'
usage: clusters.sh COMMAND NAME [NODE]      NAME: kafka, postgres, mariadb or galera; NODE: 1, 2 or 3

  up NAME              start all nodes with empty data, wait until they work together
  down [NAME...]       end all nodes and delete their data (default: all clusters)
  ports NAME           the port of each node
  kill NAME NODE       end at once (SIGKILL), as in a crash
  start NAME NODE      start again on its data (kafka)
  promote NAME NODE    make a standby the primary (postgres, mariadb)
  rejoin NAME NODE     start again as a standby of the primary, or as a member (postgres, mariadb, galera)

MariaDB replicates semi-synchronously; with SEMI_SYNC=OFF in the environment of `up`, asynchronously.
EOT
}

main() {
  local verb=${1:-help} name=${2:-} node=${3:-}
  case $verb in
    down)
      shift
      if ((!$#)); then set -- "${ALL[@]}"; fi
      ;;
    up | ports | kill | start | promote | rejoin)
      [[ " ${ALL[*]} " == *" $name "* ]] || misused "which cluster?"
      if [[ $verb != up && $verb != ports ]]; then [[ $node =~ ^[123]$ ]] || misused "which node?"; fi
      ;;
    *)
      usage
      return
      ;;
  esac
  make_state
  make_place
  case $verb in
    up) up "$name" ;;
    down) for name in "$@"; do down "$name"; done ;;
    ports) "cluster_${name}_ports" ;;
    kill) end_node "$name-$node" ;;
    start) start_node "$name" "$node" ;;
    promote) "cluster_${name}_promote" "$node" ;;
    rejoin) "cluster_${name}_rejoin" "$node" ;;
  esac
}

misused() {
  say clusters "$1" >&2
  usage >&2
  exit 2
}

# PostgreSQL's user has to reach its data: in the project, unless a parent shuts that user out.
make_place() {
  local place=$STATE/clusters
  if [[ ! -e $place ]]; then
    if ((EUID != 0)) || ! have psql || as_postgres test -x "$STATE"; then
      mkdir -p "$place"
    else
      mkdir -p /var/lib/raingauge
      ln -sfn "$(mktemp -d /var/lib/raingauge/clusters-XXXXXX)" "$place"
    fi
  fi
  CLUSTERS=$(readlink -f "$place")
  chmod 711 "$CLUSTERS"
}

home_of() { echo "$CLUSTERS/$1"; } # home_of NODE_NAME

up() {
  local name=$1
  take_lock "cluster-$name"
  install_missing "cluster_$name"
  down "$name"
  mapfile -t ports < <("cluster_${name}_ports")
  need_free_ports "$name" "${ports[@]}"
  "cluster_${name}_up"
  say "$name" "answers on ports ${ports[*]}"
}

down() {
  local node
  for node in 1 2 3; do end_node "$1-$node"; done
  rm -rf "$CLUSTERS/$1"-*
}

start_node() {
  "cluster_$1_launch" "$2"
  await_node "$1" "$2"
}

# await_node NAME NODE
await_node() {
  local began=$SECONDS pid
  pid=$(<"$RUN/$1-$2.pid")
  until "cluster_$1_answers" "$2"; do
    alive "$pid" || die_with_log "$1-$2" "ends instead of answering" "$LOG/$1-$2.log"
    ((SECONDS < began + ANSWER_DEADLINE_S)) || die_with_log "$1-$2" "does not answer" "$LOG/$1-$2.log"
    sleep 0.1
  done
}

# The recorded process may have ended long ago and its number be another's: only a node has its home among its arguments.
end_node() {
  local pid node=$1
  { read -r pid <"$RUN/$node.pid"; } 2>/dev/null || return 0
  if alive "$pid" && tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$(home_of "$node")"; then
    kill -s KILL "$pid" || true
    wait_until 10 ended "$pid" || die "$node" "process $pid does not end"
  fi
  rm -f "$RUN/$node.pid"
}

main "$@"
