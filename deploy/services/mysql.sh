# shellcheck shell=bash
# MySQL, from Debian's unstable suite, because Debian 12 has MariaDB alone. It is unpacked with the libraries it was
# built with and runs on those; nothing is installed on the machine. Sourced by services.sh.

readonly MYSQL_PORT=3316
readonly MYSQL_HOME=$STATE/mysql

mysql_ports() { echo "$MYSQL_PORT"; }
mysql_mark() { echo "--defaults-file=$MYSQL_HOME/my.cnf"; }
mysql_stop_signal() { echo TERM; }
mysql_sweep() { :; }
mysql_data() { echo "$MYSQL_HOME/data"; }
mysql_wipe() { rm -rf "$MYSQL_HOME"/data{,.new}; }
mysql_missing_packages() { have mariadb || echo mariadb-client-core; }

mysql_prepare() {
  mysql_fetch
  mkdir -p "$SOCKETS/mysql"
  chmod 700 "$SOCKETS/mysql"
  mysql_settings >"$MYSQL_HOME/my.cnf"
  mariadb_users >"$MYSQL_HOME/init.sql"
  mysql_create
}

# Unpacked under another name and then renamed, so that a run cut short leaves nothing half made.
mysql_fetch() {
  local fresh=$MYSQL_HOME/program.new
  if [[ -d $MYSQL_HOME/program ]]; then return; fi
  have apt-get || die mysql "needs apt-get, to fetch the server from Debian's unstable suite"
  say mysql "fetches the server from Debian's unstable suite: 60 MB"
  rm -rf "$fresh"
  mkdir -p "$fresh"
  { mysql_download "$fresh/apt" && mysql_unpack "$fresh"; } >"$LOG/mysql-fetch.log" 2>&1 </dev/null ||
    die_with_log mysql "cannot fetch the server" "$LOG/mysql-fetch.log"
  mv "$fresh" "$MYSQL_HOME/program"
}

# mysql_download FOLDER: the server's package and all that it depends on, with lists of their own and as if nothing were
# installed. The mirror is the one that this machine uses.
mysql_download() {
  local apt=$1 codename mirror options
  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get update --print-uris | sed -n "s|^'\(.*\)/dists/$codename/InRelease'.*|\1|p" | head -n 1)
  mkdir -p "$apt"/{lists,archives}/partial
  : >"$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?apt has none} sid main" >"$apt/sources.list"
  options=(-o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists="$apt/lists" -o Dir::State::Status="$apt/status" -o Dir::Cache="$apt"
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Acquire::Retries=3)
  apt-get "${options[@]}" update && apt-get "${options[@]}" -y --download-only install mysql-server-core
}

# mysql_unpack FOLDER
mysql_unpack() {
  local package
  # Perl is for the server's tools, and no part of it.
  rm -f "$1"/apt/archives/*perl*.deb
  for package in "$1"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$1" || return; done
  rm -rf "$1/apt"
  cat >"$1/mysqld" <<'EOF'
#!/bin/sh
# The server on its own libraries, because the machine's are older.
home=${0%/*}
exec "$home"/usr/lib/*-linux-gnu/ld-linux-*.so.* --inhibit-cache --library-path "$(echo "$home"/usr/lib/*-linux-gnu)" \
  "$home/usr/sbin/mysqld" "$@" --basedir="$home/usr" --lc-messages-dir="$home/usr/share/mysql" \
  --character-sets-dir="$home/usr/share/mysql/charsets" --secure-file-priv=NULL --mysqlx=OFF
EOF
  chmod 755 "$1/mysqld"
  "$1/mysqld" --no-defaults --version
}

# Created under another name and then renamed, as above.
mysql_create() {
  local data fresh
  data=$(mysql_data)
  if [[ -d $data ]]; then return; fi
  say mysql "creates its data folder"
  fresh=$data.new
  rm -rf "$fresh"
  "$MYSQL_HOME/program/mysqld" "$(mysql_mark)" --datadir="$fresh" --initialize-insecure \
    >"$LOG/mysql-create.log" 2>&1 </dev/null ||
    die_with_log mysql "cannot create its data folder" "$LOG/mysql-create.log"
  mv "$fresh" "$data"
}

# The users are made at every start, by the server before it takes connections.
mysql_launch() { spawn mysql "$MYSQL_HOME/program/mysqld" "$(mysql_mark)" --init-file="$MYSQL_HOME/init.sql"; }

mysql_works() { mysql_answers; }
mysql_answers() { mariadb_answers_on "$MYSQL_PORT"; }

mysql_settings() {
  cat <<EOF
[mysqld]
datadir = $(mysql_data)
socket = $SOCKETS/mysql/mysql.sock
pid-file = $SOCKETS/mysql/mysql.pid
bind-address = 127.0.0.1
port = $MYSQL_PORT
skip-name-resolve
$(if ((EUID == 0)); then echo "user = root"; fi)

default-time-zone = +00:00
max_connections = 500

# As safe as in production: what is measured here must hold there.
innodb_flush_log_at_trx_commit = 1
sync_binlog = 1

# Small enough for a laptop.
innodb_buffer_pool_size = 128M
innodb_redo_log_capacity = 128M
performance_schema = off
EOF
}
