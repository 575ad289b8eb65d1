# shellcheck shell=bash
# MariaDB: a primary and a replica, semi-synchronous unless SEMI_SYNC=OFF. Sourced by clusters.sh.

# User and password alike: of who may do everything.
readonly OPERATOR=operator

cluster_mariadb_missing_packages() { mariadb_missing_packages; }
cluster_mariadb_ports() { printf '%s\n' 3406 3407; }
cluster_mariadb_port() { echo $((3405 + $1)); }

cluster_mariadb_up() {
  mysql_template mariadb
  echo "${SEMI_SYNC:-ON}" >"$(home_of mariadb-semi-sync)"
  cluster_mariadb_create 1
  start_node mariadb 1
  mysql_ask mariadb 1 'SET GLOBAL read_only = 0'
  cluster_mariadb_rejoin 2
}

# mysql_template NAME: an empty data folder with the users in it, which every node of a cluster begins with.
mysql_template() {
  local home
  home=$(home_of "$1-template")
  mkdir -p "$home"
  mysql_users >"$home/users.sql"
  mariadb-install-db --no-defaults --datadir="$home/data" --skip-test-db --user="$(id -un)" --skip-log-bin \
    --auth-root-authentication-method=normal >"$LOG/$1-create.log" 2>&1 </dev/null ||
    die_with_log "$1" "cannot create its data" "$LOG/$1-create.log"
  mariadbd --no-defaults --datadir="$home/data" --user="$(id -un)" --bootstrap --skip-log-bin \
    <"$home/users.sql" >"$LOG/$1-users.log" 2>&1 || die_with_log "$1" "cannot create its users" "$LOG/$1-users.log"
}

# The first line: a server that is started to create its users alone has no table of rights in force.
mysql_users() {
  echo 'FLUSH PRIVILEGES;'
  mariadb_users
  cat <<EOU
CREATE USER '$OPERATOR'@'%' IDENTIFIED BY '$OPERATOR';
GRANT ALL ON *.* TO '$OPERATOR'@'%' WITH GRANT OPTION;
EOU
}

# mysql_settings NAME NODE PORT
mysql_settings() {
  local home
  home=$(home_of "$1-$2")
  cat <<EOS
[mariadbd]
datadir = $home/data
socket = $home/sock
pid-file = $home/pid
bind-address = 127.0.0.1
port = $3
server_id = $2
skip-name-resolve
$(if ((EUID == 0)); then echo "user = root"; fi)
character-set-server = utf8mb4
default-time-zone = +00:00
max_connections = 300
innodb_buffer_pool_size = 64M
innodb_log_file_size = 32M
performance_schema = off
log_bin = binlog
binlog_format = ROW
log_slave_updates = on
EOS
}

# mysql_create NAME NODE
mysql_create() {
  local home
  home=$(home_of "$1-$2")
  rm -rf "$home"
  mkdir -p "$home"
  cp -r "$(home_of "$1-template")/data" "$home/data"
}

# mysql_ask NAME NODE STATEMENT
mysql_ask() {
  timeout 60 mariadb --no-defaults --protocol=tcp --host=127.0.0.1 --port="$("cluster_$1_port" "$2")" --connect-timeout=5 \
    --user="$OPERATOR" --password="$OPERATOR" --batch --skip-column-names --execute="$3" 2>>"$LOG/$1-ask.log" </dev/null
}

cluster_mariadb_create() {
  local semi
  semi=$(<"$(home_of mariadb-semi-sync)")
  mysql_create mariadb "$1"
  {
    mysql_settings mariadb "$1" "$(cluster_mariadb_port "$1")"
    # A commit counts when the replica has it; without any replica it counts at once.
    cat <<EOS
innodb_flush_log_at_trx_commit = 1
sync_binlog = 1
read_only = on
gtid_strict_mode = on
rpl_semi_sync_master_enabled = $semi
rpl_semi_sync_slave_enabled = $semi
rpl_semi_sync_master_wait_point = AFTER_SYNC
rpl_semi_sync_master_wait_no_slave = off
rpl_semi_sync_master_timeout = 3600000
EOS
  } >"$(home_of "mariadb-$1")/my.cnf"
}

cluster_mariadb_launch() { spawn "mariadb-$1" mariadbd --defaults-file="$(home_of "mariadb-$1")/my.cnf"; }
cluster_mariadb_answers() { [[ $(mysql_ask mariadb "$1" 'SELECT 42') == 42 ]]; }

# It becomes the primary once it has applied all that it received.
cluster_mariadb_promote() {
  local received
  mysql_ask mariadb "$1" 'STOP SLAVE IO_THREAD'
  received=$(mysql_ask mariadb "$1" 'SHOW SLAVE STATUS\G' | sed -n 's/.*Gtid_IO_Pos: //p')
  if [[ -n $received ]]; then mysql_ask mariadb "$1" "SELECT MASTER_GTID_WAIT('$received', 30)" >/dev/null; fi
  mysql_ask mariadb "$1" 'STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0' || die "mariadb-$1" "cannot be promoted"
}

# From empty data: the other node's binary log has everything since the beginning.
cluster_mariadb_rejoin() {
  end_node "mariadb-$1"
  cluster_mariadb_create "$1"
  start_node mariadb "$1"
  mysql_ask mariadb "$1" "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = $(cluster_mariadb_port $((3 - $1))),
    MASTER_USER = '$OPERATOR', MASTER_PASSWORD = '$OPERATOR', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos;
    START SLAVE"
  wait_until 60 cluster_mariadb_follows "$1" || die "mariadb-$1" "does not follow"
}

cluster_mariadb_follows() {
  local there semi
  semi=$(<"$(home_of mariadb-semi-sync)")
  there=$(mysql_ask mariadb $((3 - $1)) 'SELECT @@gtid_binlog_pos')
  [[ $(mysql_ask mariadb "$1" "SELECT MASTER_GTID_WAIT('$there', 1)") == 0 ]] || return 1
  [[ $semi == OFF || $(mysql_ask mariadb $((3 - $1)) "SHOW STATUS LIKE 'Rpl_semi_sync_master_status'") == *ON ]]
}
