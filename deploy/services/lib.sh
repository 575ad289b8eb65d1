# shellcheck shell=bash
# What all services share: words, locks, packages, ports, and starting and ending a process. Sourced by services.sh.

say() { printf '%-9s %s\n' "$1:" "$2"; }

die() {
  say "$1" "$2" >&2
  exit 1
}

# die_with_log WHO WHAT FILE
die_with_log() {
  say "$1" "$2; the end of $3:" >&2
  tail -n 25 -- "$3" 2>/dev/null | awk '{ print "    " $0 }' >&2
  exit 1
}

# wait_until SECONDS COMMAND...
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Everything the services keep, and who may use it: data written by one user cannot be used by another.
make_state() {
  umask 022
  mkdir -p "$LOG" "$RUN" "$STATE"/{kafka,mariadb,postgres,mysql} 2>/dev/null || true
  if [[ ! -O $RUN || ! -w $RUN ]]; then
    die services "$STATE belongs to $(stat -c %U "$STATE" 2>/dev/null || echo another user): run as that user"
  fi
  # A commit of all files must not take the data along, wherever this folder is used.
  echo '*' >"$STATE/.gitignore"
  make_socket_folder
}

# The path of a Unix socket has room for 107 bytes and a clone may lie deep, so the sockets lie below /tmp. Whoever
# clears /tmp frees the name for others, hence the check of the owner.
make_socket_folder() {
  local folder
  folder=$(readlink "$RUN/sockets" || true)
  if [[ -z $folder || -L $folder || ! -d $folder || ! -O $folder ]]; then
    folder=$(mktemp -d /tmp/raingauge-XXXXXX)
    chmod 711 "$folder"
    ln -sfn "$folder" "$RUN/sockets"
  fi
  # shellcheck disable=SC2034 # the databases read it
  SOCKETS=$folder
}

# Two runs at once must not start one server twice. The lock ends with the process that took it.
take_lock() {
  local descriptor
  exec {descriptor}>"$RUN/$1.lock"
  flock -w 600 "$descriptor" || die "$1" "another run of services.sh still works on it"
}

have() { command -v "$1" >/dev/null; }

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die services "this needs root or sudo: $*"
  fi
}

# install_missing NAME...: what the named services lack, from Debian.
install_missing() {
  local name packages=()
  for name in "$@"; do
    mapfile -t -O "${#packages[@]}" packages < <("${name}_missing_packages")
  done
  ((${#packages[@]})) || return 0
  have apt-get || die services "please install what Debian calls: ${packages[*]}"
  say services "installs ${packages[*]}"
  apt_get update || say services "cannot update the list of packages; uses the one at hand"
  # No removals: another database server that stands in the way is not ours to take off the machine.
  without_postgres_cluster apt_get install --no-install-recommends --no-remove "${packages[@]}" ||
    die_with_log services "cannot install ${packages[*]}" "$LOG/apt.log"
}

apt_get() {
  local quiet=(DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1)
  as_root env "${quiet[@]}" apt-get -y -o DPkg::Lock::Timeout=300 "$@" >>"$LOG/apt.log" 2>&1 </dev/null
}

# Left alone, Debian's PostgreSQL makes a cluster when it is installed and starts it then and at every boot, on our port.
without_postgres_cluster() {
  local guard=/etc/postgresql-common/createcluster.d/raingauge.conf status=0
  as_root install -D -m 644 /dev/stdin "$guard" <<<'create_main_cluster = false'
  "$@" || status=$?
  as_root rm -f "$guard"
  return "$status"
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# need_free_ports NAME PORT...
need_free_ports() {
  local name=$1 port holder
  shift
  for port in "$@"; do
    if port_open "$port"; then
      holder=$(ss -Hltnp "sport = :$port" 2>/dev/null | grep -o 'users:.*' | head -n 1 || true)
      die "$name" "port $port is taken by another program${holder:+: $holder}"
    fi
  done
}

# alive PID. A zombie has ended: whoever should collect it may be slow to.
alive() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  [[ ${stat##*) } != Z* ]]
}

ended() { ! alive "$1"; }

# own_pid NAME prints the process id if the recorded process is still ours: after a crash or a reboot the number may
# belong to anyone, but only our server has our path among its arguments.
own_pid() {
  local pid mark argument arguments=()
  { read -r pid <"$RUN/$1.pid"; } 2>/dev/null || return 1
  [[ $pid =~ ^[0-9]+$ ]] && alive "$pid" || return 1
  mark=$("${1}_mark")
  { mapfile -d '' -t arguments <"/proc/$pid/cmdline"; } 2>/dev/null || return 1
  for argument in "${arguments[@]}"; do
    if [[ $argument == "$mark" ]]; then
      printf '%s\n' "$pid"
      return 0
    fi
  done
  return 1
}

# spawn NAME COMMAND...: in the background, in a session of its own, with nothing of the caller's: no terminal, no
# descriptors (an inherited pipe would keep `make services | cat` from returning), no environment.
spawn() {
  local name=$1
  shift
  if [[ -e $LOG/$name.log ]]; then mv -f "$LOG/$name.log" "$LOG/$name.log.old"; fi
  (
    exec </dev/null >"$LOG/$name.log" 2>&1
    close_descriptors
    cd /
    # Kafka holds three files for each partition.
    ulimit -Sn 65536 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
    exec setsid env -i PATH="$PATH" LC_ALL=C.UTF-8 TZ=UTC "$@"
  ) &
  printf '%s\n' "$!" >"$RUN/$name.pid"
}

close_descriptors() {
  local path descriptor
  for path in "/proc/$BASHPID/fd/"*; do
    descriptor=${path##*/}
    # 255 is the shell's own and closes by itself.
    if ((descriptor > 2 && descriptor != 255)); then exec {descriptor}>&-; fi
  done
}
