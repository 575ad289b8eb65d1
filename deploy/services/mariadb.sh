# shellcheck shell=bash
# MariaDB with a data folder of its own; the machine's own server and /etc/mysql are left alone. Sourced by services.sh.

readonly MARIADB_PORT=3306
readonly MARIADB_HOME=$STATE/mariadb

mariadb_ports() { echo "$MARIADB_PORT"; }
mariadb_mark() { echo "--defaults-file=$MARIADB_HOME/my.cnf"; }
mariadb_stop_signal() { echo TERM; }
mariadb_sweep() { :; }
mariadb_data() { echo "$MARIADB_HOME/data"; }
mariadb_wipe() { rm -rf "$MARIADB_HOME"/data{,.new}; }

# The core packages hold the programs alone: no system service that would take the port.
mariadb_missing_packages() {
  { have mariadbd && have mariadb-install-db; } || echo mariadb-server-core
  have mariadb || echo mariadb-client-core
}

mariadb_prepare() {
  mkdir -p "$SOCKETS/mariadb"
  chmod 700 "$SOCKETS/mariadb"
  mariadb_settings >"$MARIADB_HOME/my.cnf"
  mariadb_users >"$MARIADB_HOME/init.sql"
  mariadb_create
}

# Created under another name and then renamed, so that a run cut short leaves nothing half made.
mariadb_create() {
  local data fresh short
  data=$(mariadb_data)
  if [[ -d $data ]]; then return; fi
  say mariadb "creates its data folder"
  fresh=$data.new
  rm -rf "$fresh"
  # By a short way in, because the installer breaks paths at spaces.
  short=$SOCKETS/mariadb/home
  ln -sfn "$MARIADB_HOME" "$short"
  mariadb-install-db --defaults-file="$short/my.cnf" --datadir="$short/${fresh##*/}" --skip-test-db \
    --auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" \
    >"$LOG/mariadb-create.log" 2>&1 </dev/null ||
    die_with_log mariadb "cannot create its data folder" "$LOG/mariadb-create.log"
  mv "$fresh" "$data"
}

# The users are made at every start, by the server before it takes connections.
mariadb_launch() { spawn mariadb mariadbd "$(mariadb_mark)" --init-file="$MARIADB_HOME/init.sql"; }

mariadb_works() { mariadb_answers; }
mariadb_answers() { mariadb_answers_on "$MARIADB_PORT"; }
mariadb_answers_on() {
  local ask=(timeout 10 mariadb --no-defaults --protocol=tcp --host=127.0.0.1 --port="$1" --connect-timeout=5
    --user=raingauge --password=raingauge --batch --skip-column-names --execute='SELECT 42' raingauge)
  [[ $("${ask[@]}" 2>/dev/null </dev/null) == 42 ]]
}

# Rights on its own databases only: none of them reaches the machine's files, though the server may run as root.
mariadb_users() {
  cat <<'EOF'
CREATE DATABASE IF NOT EXISTS raingauge CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'raingauge'@'%' IDENTIFIED BY 'raingauge';
GRANT ALL ON `raingauge%`.* TO 'raingauge'@'%';
EOF
}

mariadb_settings() {
  cat <<EOF
[mariadbd]
datadir = $(mariadb_data)
socket = $SOCKETS/mariadb/mariadb.sock
pid-file = $SOCKETS/mariadb/mariadb.pid
bind-address = 127.0.0.1
port = $MARIADB_PORT
skip-name-resolve
$(if ((EUID == 0)); then echo "user = root"; fi)

character-set-server = utf8mb4
default-time-zone = +00:00
max_connections = 500

# As safe as in production: what is measured here must hold there.
innodb_flush_log_at_trx_commit = 1

# Small enough for a laptop. For measurements of large tables: BUFFER_POOL=4G make services
innodb_buffer_pool_size = ${BUFFER_POOL:-128M}
innodb_log_file_size = 64M
performance_schema = off
EOF
}
