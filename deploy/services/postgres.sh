# shellcheck shell=bash
# PostgreSQL with a data folder of its own; the machine's own clusters are left alone. Sourced by services.sh.

readonly POSTGRES_PORT=5432
readonly POSTGRES_HOME=$STATE/postgres

postgres_ports() { echo "$POSTGRES_PORT"; }
postgres_mark() { postgres_data; }
# A fast stop: on TERM it would wait for every client to leave.
postgres_stop_signal() { echo INT; }
# A link when the data lies elsewhere, see postgres_place.
postgres_data() { readlink -f "$POSTGRES_HOME/data"; }

postgres_wipe() {
  local data
  data=$(postgres_data)
  rm -rf "$data" "$data.new"
  if [[ -L $POSTGRES_HOME/data ]]; then
    rm "$POSTGRES_HOME/data"
    rmdir --ignore-fail-on-non-empty "${data%/data}"
  fi
}

postgres_missing_packages() {
  if [[ -z $(postgres_newest_version) ]]; then echo postgresql; fi
}

postgres_newest_version() {
  local server versions=()
  for server in /usr/lib/postgresql/*/bin/postgres; do
    if [[ -x $server ]]; then versions+=("$(basename "${server%/bin/postgres}")"); fi
  done
  printf '%s\n' "${versions[@]}" | sort -V | tail -n 1
}

# A data folder can only be used by the version that made it.
postgres_bin() {
  local data version
  data=$(postgres_data)
  if [[ -n $data && -f $data/PG_VERSION ]]; then
    version=$(<"$data/PG_VERSION")
  else
    version=$(postgres_newest_version)
  fi
  if [[ ! -x /usr/lib/postgresql/$version/bin/postgres ]]; then
    die postgres "its data needs PostgreSQL $version, which is not installed; install it or wipe the data"
  fi
  echo "/usr/lib/postgresql/$version/bin"
}

# It refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then
    setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
  else
    "$@"
  fi
}

# folder_for_postgres PATH
folder_for_postgres() {
  mkdir -p "$1"
  chmod 700 "$1"
  if ((EUID == 0)); then chown postgres: "$1"; fi
}

postgres_prepare() {
  folder_for_postgres "$SOCKETS/postgres"
  if [[ ! -d $POSTGRES_HOME/data ]]; then postgres_create; fi
  postgres_sweep
}

# Where its user may go: in the project, unless a parent shuts that user out (a clone in root's home). Then in /var/lib,
# because what lies in /var/tmp is deleted by age on some systems.
postgres_place() {
  if as_postgres test -x "$POSTGRES_HOME"; then
    echo "$POSTGRES_HOME"
  else
    mkdir -p /var/lib/raingauge
    mktemp -d /var/lib/raingauge/postgres-XXXXXX
  fi
}

# Created under another name and then renamed, so that a run cut short leaves nothing half made.
postgres_create() {
  local place fresh
  place=$(postgres_place)
  fresh=$place/data.new
  rm -rf "$fresh"
  if [[ $place == "$POSTGRES_HOME" ]]; then
    say postgres "creates its data folder"
  else
    say postgres "creates its data folder in $place, for its user cannot enter $POSTGRES_HOME"
    chmod 711 "$place"
    ln -sfn "$place/data" "$POSTGRES_HOME/data"
  fi
  folder_for_postgres "$fresh"
  postgres_fill "$fresh" >"$LOG/postgres-create.log" 2>&1 ||
    die_with_log postgres "cannot create its data folder" "$LOG/postgres-create.log"
  mv "$fresh" "$place/data"
}

# Whoever may enter the socket folder may be superuser: only the server's own user can. TCP always asks the password.
postgres_fill() (
  cd /
  bin=$(postgres_bin)
  as_postgres "$bin/initdb" -D "$1" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
    --auth-local=trust --auth-host=scram-sha-256 </dev/null &&
    as_postgres "$bin/postgres" --single -D "$1" postgres <<<"\
CREATE ROLE raingauge LOGIN CREATEDB PASSWORD 'raingauge'
CREATE DATABASE raingauge OWNER raingauge"
)

postgres_launch() {
  local bin server
  bin=$(postgres_bin)
  server=("$bin/postgres" -D "$(postgres_data)"
    -c listen_addresses=127.0.0.1 -c port="$POSTGRES_PORT" -c unix_socket_directories="$SOCKETS/postgres"
    -c timezone=UTC -c log_timezone=UTC
    -c max_connections=400 -c shared_buffers=128MB
    # As safe as in production: what is measured here must hold there.
    -c fsync=on -c synchronous_commit=on -c full_page_writes=on)
  if ((EUID == 0)); then
    server=(setpriv --reuid=postgres --regid=postgres --init-groups -- "${server[@]}")
  fi
  spawn postgres "${server[@]}"
}

postgres_works() { postgres_answers; }
postgres_answers() {
  local bin ask
  bin=$(postgres_bin) || return 1
  ask=(env -i PATH="$PATH" PGPASSWORD=raingauge PGCONNECT_TIMEOUT=5 timeout 10 "$bin/psql" -X -w -A -t
    -h 127.0.0.1 -p "$POSTGRES_PORT" -U raingauge -d raingauge -c 'SELECT 42')
  [[ $("${ask[@]}" 2>/dev/null </dev/null) == 42 ]]
}

# A killed server leaves its helper processes behind for a moment, and a new one refuses the data until they are gone.
# It also refuses when a process has the number in the old lock files: after a reboot that may be any process, right
# after a kill the dead server itself until it is collected. So they go, once nobody can be using them any more.
postgres_sweep() {
  local data
  data=$(postgres_data)
  if ! wait_until 5 postgres_left; then
    say postgres "kills what a former server left"
    postgres_leftovers | xargs -r kill -KILL
    wait_until 5 postgres_left || die postgres "processes of a former server do not end"
  fi
  rm -f "$data/postmaster.pid" "$SOCKETS"/postgres/.s.PGSQL.*
}

postgres_left() { [[ -z $(postgres_leftovers) ]]; }

# PostgreSQL's processes stand in the data folder they belong to.
postgres_leftovers() {
  local process data
  data=$(postgres_data)
  for process in /proc/[0-9]*; do
    if [[ $process/cwd -ef $data && $(readlink "$process/exe") == */bin/postgres* ]]; then
      echo "${process#/proc/}"
    fi
  done 2>/dev/null
}
