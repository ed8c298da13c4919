#!/usr/bin/env bash
# Brings up the real servers that the end-to-end tests and the demo talk to, on 127.0.0.1, and
# takes them down again.
#
#   tests/services.sh up [NAME…]    start (default: all but the optional ones); fresh data each time
#   tests/services.sh down          stop what `up` started, erase its data, keep logs and ports
#   tests/services.sh env           print `export PGSYNCD_TEST_…=…` lines, for eval
#   tests/services.sh status        print which server is where, or why it is not
#
# Names: postgres15 postgres17 postgres15replica redis elasticsearch7 elasticsearch9
# and, only when named: elasticsearch8 opensearch.
# A server whose variable (see `variable_of`) is set already is used, not started.
#
#   PGSYNCD_SERVICES_DIR          run directory: data, logs, ports (/var/tmp/pgsyncd-services-UID);
#                                 runs with different directories do not disturb each other
#   PGSYNCD_SERVICES_CACHE        downloads (root: /var/cache/pgsyncd-services, else ~/.cache/…)
#   PGSYNCD_SERVICES_PORT_<NAME>  fixed port, for example PGSYNCD_SERVICES_PORT_REDIS=6379
#   PGSYNCD_SERVICES_JVMS         directory with one folder per JDK (/usr/lib/jvm)
#   PGSYNCD_SERVICES_USER         user that servers run as when we are root (postgres, else nobody)
#
#   PGSYNCD_SERVICES_ENGINE       containers, processes, or auto: containers if a Docker engine
#                                 answers, and processes for whatever does not come up that way
#
# Processes need no engine and no images: Debian's package archive and Maven Central are enough.
set -euo pipefail

readonly default_names=(postgres15 postgres17 postgres15replica redis elasticsearch7 elasticsearch9)
readonly known_names=(postgres15 postgres17 postgres15replica redis
  elasticsearch7 elasticsearch8 elasticsearch9 opensearch)
# JVMs that start side by side on two cores need several times their usual ten seconds.
readonly start_limit_seconds=120

run=${PGSYNCD_SERVICES_DIR:-/var/tmp/pgsyncd-services-$UID}
run=$(realpath -m -- "$run")
if [[ -n ${PGSYNCD_SERVICES_CACHE:-} ]]; then
  cache=$(realpath -m -- "$PGSYNCD_SERVICES_CACHE")
elif ((UID == 0)); then
  cache=/var/cache/pgsyncd-services
else
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgsyncd-services
fi
jvms=${PGSYNCD_SERVICES_JVMS:-/usr/lib/jvm}
user=$(id -un)
project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
for part in install processes containers servers; do
  # shellcheck source=/dev/null
  source "$project/tests/services/$part.sh"
done

main() {
  case ${1:-} in
    up) shift && up "$@" ;;
    down) down ;;
    env) print_environment ;;
    status) print_status ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2 && exit 64 ;;
  esac
}

# ---------------------------------------------------------------- commands

up() {
  local names=("$@") name
  ((${#names[@]})) || names=("${default_names[@]}")
  for name in "${names[@]}"; do
    [[ " ${known_names[*]} " == *" $name "* ]] || die "no such server: $name (known: ${known_names[*]})"
  done
  (umask 022 && mkdir -p "$run" "$cache")
  exec 9>"$run/lock"
  flock -w 1200 9 || die "another run still holds $run/lock"

  mapfile -t names < <(names_to_start "${names[@]}")
  local failed=()
  if container_engine_answers; then
    start_all containers "${names[@]}"
    names=("${failed[@]}")
    ((${#names[@]} == 0)) || [[ ${PGSYNCD_SERVICES_ENGINE:-auto} == containers ]] ||
      say "starting as processes instead: ${names[*]}"
  fi
  [[ ${PGSYNCD_SERVICES_ENGINE:-auto} == containers ]] || start_all processes "${names[@]}"
  return $((${#failed[@]} > 0))
}

# Leaves out what runs already or is given, and says so.
names_to_start() {
  local name
  for name in "$@"; do
    if is_given "$name"; then
      say "$name: given by $(variable_of "$name"), not started"
    elif is_running "$name"; then
      say "$name: runs already, $(url_of "$name")"
    else
      echo "$name"
    fi
  done
}

# start_all containers|processes NAME…: all side by side; sets `failed`.
start_all() {
  local engine=$1 name names=()
  local -A pids=()
  shift
  failed=()
  for name in "$@"; do
    [[ $engine$name != processeselasticsearch9 ]] || name=$(newest_elasticsearch)
    is_running "$name" || names+=("$name")
  done
  ((${#names[@]})) || return 0
  install_missing "${names[@]}"
  choose_user
  for name in "${names[@]}"; do
    port_of "$name" >/dev/null
  done
  for name in "${names[@]}"; do
    bring_up "$name" &
    pids[$name]=$!
  done
  for name in "${names[@]}"; do
    wait "${pids[$name]}" || { failed+=("$name") && stop "$name"; }
  done
}

# The newest that this machine's Java can run.
newest_elasticsearch() {
  if java_for elasticsearch9 >/dev/null; then
    echo elasticsearch9
  else
    note elasticsearch9 "not started: it needs a full JDK of version 21 or newer, and $jvms has none; elasticsearch8 (8.16.1) takes its place"
    echo elasticsearch8
  fi
}

bring_up() {
  local name=$1 began
  began=$(milliseconds)
  # Of one that died by itself, children may be left.
  stop "$name"
  rm -rf "${run:?}/$name" "$run/$name.note"
  mkdir "$run/$name"
  ((UID != 0)) || chown "$user": "$run/$name"
  chmod 700 "$run/$name"
  as_user test -w "$run/$name" ||
    die_for "$name" "user $user cannot enter $run: choose a PGSYNCD_SERVICES_DIR whose parents are open to all (a 0700 home is not)"
  if [[ $engine == containers ]]; then
    start_container "$name"
  else
    start_process "$name"
  fi
  began=$((($(milliseconds) - began) / 100))
  say "$name: ready after $((began / 10)).$((began % 10)) s, $(url_of "$name")"
}

down() {
  [[ -d $run ]] || return 0
  exec 9>"$run/lock"
  flock -w 60 9 || die "another run still holds $run/lock"
  local name
  for name in "${known_names[@]}"; do
    stop "$name" &
  done
  wait
  rm -f "$run"/*.note
}

is_running() {
  container_is_running "$1" || process_is_running "$1"
}

stop() {
  local name=$1
  if [[ -s $run/$name.container ]]; then
    stop_container "$name"
  elif [[ -s $run/$name.pid ]]; then
    stop_process "$name"
  else
    return 0
  fi
  rm -rf "$run/$name".{pid,container} "${run:?}/$name"
  say "$name: stopped"
}

# wait_for NAME CHECK…
wait_for() {
  local name=$1 deadline=$((SECONDS + start_limit_seconds))
  shift
  until "$@" >/dev/null 2>&1; do
    is_running "$name" || give_up "$name" "ended while it started"
    ((SECONDS < deadline)) || give_up "$name" "not ready after $start_limit_seconds s"
    sleep 0.1
  done
}

give_up() {
  [[ ! -s $run/$1.container ]] || save_container_log "$1"
  die_for "$1" "$2" "$run/$1.log"
}

print_environment() {
  local name url
  for name in "${known_names[@]}"; do
    if is_given "$name"; then
      url=$(given_url "$name")
    elif is_running "$name"; then
      url=$(url_of "$name")
      case $name in
        postgres15) printf 'export PGSYNCD_TEST_POSTGRES_CA=%q\n' "$run/tls/ca.crt" ;;
        postgres17) printf 'export PGSYNCD_TEST_POSTGRES_NEWER_CA=%q\n' "$run/tls/ca.crt" ;;
      esac
    else
      continue
    fi
    printf 'export %s=%q\n' "$(variable_of "$name")" "$url"
  done
}

print_status() {
  local name
  for name in "${known_names[@]}"; do
    if is_given "$name"; then
      echo "$name: given by $(variable_of "$name")"
    elif is_running "$name"; then
      echo "$name: $(<"$run/$name/version"), $(url_of "$name"), log $run/$name.log"
    elif [[ -s $run/$name.note ]]; then
      echo "$name: $(<"$run/$name.note")"
    fi
  done
}

# ---------------------------------------------------------------- names, variables, ports

variable_of() {
  case $1 in
    postgres15) echo PGSYNCD_TEST_POSTGRES_URL ;;
    postgres17) echo PGSYNCD_TEST_POSTGRES_NEWER_URL ;;
    postgres15replica) echo PGSYNCD_TEST_POSTGRES_REPLICA_LEVEL_URL ;;
    redis) echo PGSYNCD_TEST_REDIS_URL ;;
    elasticsearch7) echo PGSYNCD_TEST_ELASTICSEARCH_URL ;;
    elasticsearch8 | elasticsearch9) echo PGSYNCD_TEST_ELASTICSEARCH_NEWER_URL ;;
    opensearch) echo PGSYNCD_TEST_OPENSEARCH_URL ;;
  esac
}

given_url() {
  local variable
  variable=$(variable_of "$1")
  echo "${!variable:-}"
}

# Our own address, exported by an earlier `env` into this shell, is not a given server.
is_given() {
  local url name
  url=$(given_url "$1")
  [[ -n $url ]] || return 1
  for name in "${known_names[@]}"; do
    [[ $url != "$(url_of "$name")" ]] || return 1
  done
}

url_of() {
  local port=""
  [[ ! -s $run/$1.port ]] || port=$(<"$run/$1.port")
  case $1 in
    postgres*) echo "postgres://postgres:postgres@127.0.0.1:$port/postgres" ;;
    redis) echo "redis://127.0.0.1:$port/0" ;;
    *) echo "http://127.0.0.1:$port" ;;
  esac
}

# Prints the port: the one asked for, else that of the last run if it is free, else any free one.
port_of() {
  local wish=PGSYNCD_SERVICES_PORT_${1^^} port=""
  if [[ -n ${!wish:-} ]]; then
    port=${!wish}
    port_is_free "$port" || die_for "$1" "port $port ($wish) is taken"
  else
    [[ ! -s $run/$1.port ]] || port=$(<"$run/$1.port")
    [[ -n $port ]] && port_is_free "$port" || port=$(free_port)
  fi
  echo "$port" | tee "$run/$1.port"
}

port_is_free() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Below the range from which the kernel takes the ports of outgoing connections.
free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
    grep -qsx "$port" "$run"/*.port || ! port_is_free "$port" || { echo "$port" && return; }
  done
  die "no free port found"
}

# ---------------------------------------------------------------- speaking

milliseconds() {
  echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

say() {
  echo "services: $*" >&2
}

note() {
  say "$1: $2"
  echo "$2" >"$run/$1.note"
}

die() {
  say "$*"
  exit 1
}

# die_for NAME REASON [LOG]
die_for() {
  note "$1" "not started: $2"
  [[ -z ${3:-} ]] || { echo "--- last lines of $3" && tail -n 25 "$3" && echo "---"; } >&2
  exit 1
}

main "$@"
