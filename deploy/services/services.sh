#!/usr/bin/env bash
# Kafka, MariaDB, PostgreSQL and MySQL for development and tests, on this machine and without Docker. See README.md.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
STATE=$(dirname "$(dirname "$HERE")")/var/services
LOG=$STATE/log
RUN=$STATE/run
SOCKETS= # set by make_state
readonly HERE STATE LOG RUN
readonly USUAL=(kafka mariadb postgres)
readonly ALL=("${USUAL[@]}" mysql)
# How long a server may take to answer after its start, and to end before it is killed.
readonly ANSWER_DEADLINE_S=120 STOP_DEADLINE_S=30
# The database servers live where a user's path may not look.
PATH=$PATH:/usr/sbin:/sbin

# shellcheck source=lib.sh
source "$HERE/lib.sh"
# shellcheck source=kafka.sh
source "$HERE/kafka.sh"
# shellcheck source=mariadb.sh
source "$HERE/mariadb.sh"
# shellcheck source=postgres.sh
source "$HERE/postgres.sh"
# shellcheck source=mysql.sh
source "$HERE/mysql.sh"

usage() {
  cat <<'EOF'
usage: services.sh COMMAND [NAME...]        NAME: kafka, mariadb, postgres or mysql

  up [NAME...]       install what is missing, start what does not run, wait until it answers (default: all but mysql)
  down [--wipe]      end all; with --wipe delete the data and the logs too (downloads stay)
  status [NAME...]   what runs and answers; exit status 1 unless all of it does (default: the same)
  start NAME...      the same as up
  stop NAME...       end gracefully; by force when that takes too long
  kill NAME...       end at once (SIGKILL), as in a crash
  restart NAME...    stop, then start
EOF
}

main() {
  local verb=${1:-help}
  if (($#)); then shift; fi
  case $verb in
    up | status)
      if ((!$#)); then set -- "${USUAL[@]}"; fi
      check_names "$@"
      "$verb" "$@"
      ;;
    start | stop | kill | restart)
      check_names "$@"
      "do_$verb" "$@"
      ;;
    down) down "$@" ;;
    help | -h | --help) usage ;;
    *) misused "there is no command $verb" ;;
  esac
}

misused() {
  say services "$1" >&2
  usage >&2
  exit 2
}

check_names() {
  local name
  (($#)) || misused "which one?"
  for name in "$@"; do
    [[ " ${ALL[*]} " == *" $name "* ]] || misused "there is no service $name"
  done
}

up() {
  make_state
  install_missing "$@"
  in_parallel bring_up "$@"
}

down() {
  case "$*" in
    '') do_stop "${ALL[@]}" ;;
    --wipe)
      make_state
      in_parallel end_and_wipe "${ALL[@]}"
      rm -rf "$SOCKETS" "$RUN/sockets"
      ;;
    *) misused "down takes no names, only --wipe" ;;
  esac
}

do_start() { up "$@"; }

do_stop() {
  make_state
  in_parallel end "$@"
}

do_kill() {
  make_state
  in_parallel crash "$@"
}

do_restart() {
  do_stop "$@"
  up "$@"
}

status() {
  local name pid result=0
  for name in "$@"; do
    if ! pid=$(own_pid "$name"); then
      say "$name" "does not run"
      result=1
    elif "${name}_answers"; then
      say "$name" "answers on $(address "$name") (process $pid)"
    else
      say "$name" "runs but does not answer (process $pid)"
      result=1
    fi
  done
  return "$result"
}

address() { echo "127.0.0.1:$("${1}_ports" | head -n 1)"; }

# in_parallel FUNCTION NAME...: each in a process of its own; fails if one of them fails, when all have ended.
in_parallel() {
  local task=$1 name process processes=() result=0
  shift
  for name in "$@"; do
    ("$task" "$name") &
    processes+=("$!")
  done
  # A shell without job control shields its background processes from Ctrl-C.
  # shellcheck disable=SC2064 # these processes, not those of a later call
  trap "kill ${processes[*]} 2>/dev/null; exit 130" INT TERM
  for process in "${processes[@]}"; do
    wait "$process" || result=1
  done
  trap - INT TERM
  return "$result"
}

bring_up() {
  local name=$1 pid log=$LOG/$1.log began=$SECONDS
  take_lock "$name"
  if pid=$(own_pid "$name"); then
    if "${name}_works"; then
      say "$name" "already answers on $(address "$name")"
      return
    fi
    say "$name" "already runs; waits for its answer"
  else
    launch "$name"
    pid=$(<"$RUN/$name.pid")
  fi
  until "${name}_works"; do
    alive "$pid" || die_with_log "$name" "ends instead of answering" "$log"
    ((SECONDS < began + ANSWER_DEADLINE_S)) || die_with_log "$name" "does not answer in $ANSWER_DEADLINE_S s" "$log"
    sleep 0.1
  done
  say "$name" "answers on $(address "$name")"
}

launch() {
  local name=$1 ports
  mapfile -t ports < <("${name}_ports")
  need_free_ports "$name" "${ports[@]}"
  "${name}_prepare"
  say "$name" "starts"
  "${name}_launch"
}

end() {
  local name=$1 pid
  take_lock "$name"
  if ! pid=$(own_pid "$name"); then
    say "$name" "does not run"
    return
  fi
  kill -s "$("${name}_stop_signal")" "$pid" || true
  # A server that a test has suspended would not hear it.
  kill -s CONT "$pid" || true
  if ! wait_until "$STOP_DEADLINE_S" ended "$pid"; then
    say "$name" "does not end in $STOP_DEADLINE_S s; is killed"
    kill_hard "$name" "$pid"
  fi
  rm -f "$RUN/$name.pid"
  say "$name" "has ended"
}

crash() {
  local name=$1 pid
  take_lock "$name"
  pid=$(own_pid "$name") || die "$name" "does not run"
  kill_hard "$name" "$pid"
  say "$name" "is killed"
}

kill_hard() {
  kill -s KILL "$2" || true
  wait_until 10 ended "$2" || die "$1" "process $2 does not end"
  "${1}_sweep"
}

end_and_wipe() {
  end "$1"
  "${1}_wipe"
  rm -f "$LOG/$1"[.-]*
  say "$1" "has no data any more"
}

main "$@"
