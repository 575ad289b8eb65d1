# shellcheck shell=bash
# Galera: three MariaDB nodes that commit together. Sourced by clusters.sh.

readonly GALERA_LIBRARY=/usr/lib/galera/libgalera_smm.so

cluster_galera_missing_packages() {
  mariadb_missing_packages
  [[ -e $GALERA_LIBRARY ]] || echo galera-4
}
cluster_galera_ports() { printf '%s\n' 3506 3507 3508; }
cluster_galera_port() { echo $((3505 + $1)); }

cluster_galera_up() {
  local node pid data
  mysql_template galera
  # All begin with the data of one that was a cluster by itself for a moment, so none needs a copy later.
  cluster_galera_create 1
  cluster_galera_launch 1 --wsrep-new-cluster
  await_node galera 1
  pid=$(<"$RUN/galera-1.pid")
  kill "$pid"
  wait_until 30 ended "$pid" || die galera-1 "does not end"
  data=$(home_of galera-template)/data
  rm -rf "$data"
  cp -r "$(home_of galera-1)/data" "$data"
  rm -f "$data"/{galera.cache,gvwstate.dat}
  for node in 2 3; do cluster_galera_create "$node"; done
  cluster_galera_launch 1 --wsrep-new-cluster
  await_node galera 1
  for node in 2 3; do start_node galera "$node"; done
}

cluster_galera_create() {
  mysql_create galera "$1"
  {
    mysql_settings galera "$1" "$(cluster_galera_port "$1")"
    cat <<EOS
innodb_flush_log_at_trx_commit = 1
innodb_autoinc_lock_mode = 2
wsrep_on = on
wsrep_provider = $GALERA_LIBRARY
wsrep_cluster_name = raingauge
wsrep_cluster_address = gcomm://127.0.0.1:4561,127.0.0.1:4562,127.0.0.1:4563
wsrep_node_name = node$1
wsrep_node_address = 127.0.0.1
wsrep_sst_method = position
wsrep_provider_options = "base_port=456$1; gmcast.listen_addr=tcp://127.0.0.1:456$1; ist.recv_addr=127.0.0.1:457$1; gcache.size=256M; evs.keepalive_period=PT0.5S; evs.suspect_timeout=PT2S; evs.inactive_timeout=PT4S; evs.inactive_check_period=PT0.5S; pc.recovery=false"
EOS
  } >"$(home_of "galera-$1")/my.cnf"
}

# cluster_galera_launch NODE [OPTION...]
cluster_galera_launch() {
  local node=$1
  shift
  PATH=$PATH:$HERE/galera spawn "galera-$node" mariadbd --defaults-file="$(home_of "galera-$node")/my.cnf" "$@"
}

cluster_galera_answers() {
  [[ $(mysql_ask galera "$1" "SHOW STATUS LIKE 'wsrep_local_state_comment'") == *Synced ]]
}

# After a crash it asks the data how far it had come; the others send what is missing.
cluster_galera_rejoin() {
  local home position
  home=$(home_of "galera-$1")
  end_node "galera-$1"
  mariadbd --defaults-file="$home/my.cnf" --wsrep-recover --skip-networking --log-error="$home/recovery.log" \
    >/dev/null 2>&1 </dev/null || die_with_log "galera-$1" "cannot recover" "$home/recovery.log"
  position=$(sed -n 's/.*WSREP: Recovered position: //p' "$home/recovery.log" | tail -n 1)
  cluster_galera_launch "$1" --wsrep-start-position="$position"
  await_node galera "$1"
}
