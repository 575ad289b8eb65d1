# shellcheck shell=bash
# PostgreSQL: a primary and a standby that it waits for before a commit counts. Sourced by clusters.sh.

cluster_postgres_missing_packages() { postgres_missing_packages; }
cluster_postgres_ports() { printf '%s\n' 5532 5533; }
cluster_postgres_port() { echo $((5531 + $1)); }
cluster_postgres_bin() { echo "/usr/lib/postgresql/$(postgres_newest_version)/bin"; }

cluster_postgres_up() {
  local home bin
  home=$(home_of postgres-1)
  bin=$(cluster_postgres_bin)
  folder_for_postgres "$home"
  (
    cd /
    as_postgres "$bin/initdb" -D "$home/data" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --no-sync \
      --auth-local=trust --auth-host=trust </dev/null
    as_postgres "$bin/postgres" --single -D "$home/data" postgres <<<"\
CREATE ROLE raingauge LOGIN CREATEDB PASSWORD 'raingauge'
CREATE DATABASE raingauge OWNER raingauge"
  ) >"$LOG/postgres-1-create.log" 2>&1 || die_with_log postgres "cannot create its data" "$LOG/postgres-1-create.log"
  start_node postgres 1
  cluster_postgres_rejoin 2
}

cluster_postgres_launch() {
  local home server
  home=$(home_of "postgres-$1")
  server=("$(cluster_postgres_bin)/postgres" -D "$home/data"
    -c listen_addresses=127.0.0.1 -c port="$(cluster_postgres_port "$1")" -c unix_socket_directories="$home"
    -c timezone=UTC -c log_timezone=UTC -c max_connections=200 -c shared_buffers=64MB
    -c hot_standby=on -c wal_keep_size=512MB -c fsync=on -c synchronous_commit=on)
  if ((EUID == 0)); then server=(setpriv --reuid=postgres --regid=postgres --init-groups -- "${server[@]}"); fi
  spawn "postgres-$1" "${server[@]}"
}

# cluster_postgres_ask NODE STATEMENT
cluster_postgres_ask() {
  env -i PATH="$PATH" PGCONNECT_TIMEOUT=5 timeout 10 "$(cluster_postgres_bin)/psql" -X -w -A -t -q \
    -h 127.0.0.1 -p "$(cluster_postgres_port "$1")" -U postgres -d raingauge -c "$2" 2>>"$LOG/postgres-ask.log" </dev/null
}

cluster_postgres_answers() { [[ $(cluster_postgres_ask "$1" 'SELECT 42') == 42 ]]; }

# Without a standby it waits for, or every commit would wait until there is one again.
cluster_postgres_promote() {
  cluster_postgres_ask "$1" 'SELECT pg_promote(true, 30)' >/dev/null || die "postgres-$1" "cannot be promoted"
  cluster_postgres_wait_for "$1" ''
}

# cluster_postgres_wait_for NODE STANDBYS: whom the primary waits for.
cluster_postgres_wait_for() {
  cluster_postgres_ask "$1" "ALTER SYSTEM SET synchronous_standby_names = '$2'" >/dev/null
  cluster_postgres_ask "$1" "SELECT pg_reload_conf()" >/dev/null
}

# A new copy of the other node, which follows it from then on; a commit counts there once this one has it on disk.
cluster_postgres_rejoin() {
  local home other=$((3 - $1))
  home=$(home_of "postgres-$1")
  end_node "postgres-$1"
  rm -rf "$home"
  folder_for_postgres "$home"
  (
    cd /
    as_postgres "$(cluster_postgres_bin)/pg_basebackup" -D "$home/data" -R -c fast -X stream --no-sync \
      -d "host=127.0.0.1 port=$(cluster_postgres_port "$other") user=postgres application_name=node$1"
  ) >"$LOG/postgres-$1-copy.log" 2>&1 </dev/null || die_with_log "postgres-$1" "cannot copy" "$LOG/postgres-$1-copy.log"
  start_node postgres "$1"
  cluster_postgres_wait_for "$other" '*'
  wait_until 30 cluster_postgres_is_synchronous "$other" || die "postgres-$1" "does not follow"
}

cluster_postgres_is_synchronous() {
  [[ $(cluster_postgres_ask "$1" 'SELECT sync_state FROM pg_stat_replication') == sync ]]
}
