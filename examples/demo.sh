#!/usr/bin/env bash
# Shows pgsyncd at work on real servers: builds it, brings up PostgreSQL 15 and Elasticsearch 7.17
# with the example database of examples/shop, keeps the documents in step, and shows what happens to
# a document when a row two tables away from it changes.
#
#   examples/demo.sh           runs till Ctrl-C, then stops everything that it started
#   examples/demo.sh --check   the same unattended: exit code 0 if all of it worked, else 1
#
# A machine needs Rust; all else is installed or downloaded by tests/services.sh (as root; for
# others it says what is missing). Servers named by PGSYNCD_TEST_POSTGRES_URL and
# PGSYNCD_TEST_ELASTICSEARCH_URL are used instead of started: the demo makes, and in the end removes,
# the database `pgsyncd_demo` and the index `orders` there.
#
#   PGSYNCD_DEMO_PROFILE      profile of the build (release; `fast` builds in half the time)
#   PGSYNCD_SERVICES_DIR      run directory of the servers (/var/tmp/pgsyncd-demo-UID-PID)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly database=pgsyncd_demo order=1001
readonly start_limit_seconds=60 change_limit_seconds=10
readonly profile=${PGSYNCD_DEMO_PROFILE:-release}
PGSYNCD_SERVICES_DIR=${PGSYNCD_SERVICES_DIR:-/var/tmp/pgsyncd-demo-$UID-$$}
export PGSYNCD_SERVICES_DIR
readonly logs=$PGSYNCD_SERVICES_DIR
bring_up="" daemon="" made_database=""

main() {
  local check=""
  case ${1:-} in
    "") ;;
    --check) check=yes ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2 && exit 64 ;;
  esac
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  [[ -z ${PGSYNCD_TEST_POSTGRES_URL:-} || -z ${PGSYNCD_TEST_ELASTICSEARCH_URL:-} ]] ||
    step "using the servers that are given"
  prepare
  start_servers
  build
  wait_for_servers
  make_database
  start_daemon
  show_change
  [[ -z $check ]] || { check_database_is_clean && step "all as it should be" && exit 0; }
  say_where_to_look
  # Ends when the daemon does; a signal ends it too.
  wait "$daemon" || fail "pgsyncd ended by itself, see $logs/pgsyncd.log"
}

# ---------------------------------------------------------------- setting up

prepare() {
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup, then run this again"
  local packages=()
  command -v cc >/dev/null || packages+=(build-essential)
  command -v curl >/dev/null || packages+=(curl)
  command -v psql >/dev/null || packages+=(postgresql-client)
  ((${#packages[@]})) || return 0
  ((UID == 0)) || fail "missing, and only root can install them: apt-get install ${packages[*]}"
  step "installing ${packages[*]}"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${packages[@]}" >/dev/null
}

# In a process group of its own, so that `finish` can end a download with it. The build goes on
# beside it, but after the packages are installed there is no more to wait for than both.
start_servers() {
  mkdir -p "$logs"
  step "starting PostgreSQL and Elasticsearch (a first run downloads 0.3 GB), log $logs/up.log"
  setsid tests/services.sh up postgres15 elasticsearch7 >"$logs/up.log" 2>&1 &
  bring_up=$!
}

build() {
  local began=$SECONDS
  step "building pgsyncd, profile $profile (the first build takes some minutes)"
  cargo build --profile "$profile" --locked --bin pgsyncd
  step "built after $((SECONDS - began)) s"
  binary=${CARGO_TARGET_DIR:-target}/$profile/pgsyncd
}

wait_for_servers() {
  local status=0
  wait "$bring_up" || status=$?
  bring_up=""
  sed 's/^services: /       /' "$logs/up.log"
  ((status == 0)) || fail "servers are missing, see above"
  eval "$(tests/services.sh env)"
  server=$PGSYNCD_TEST_POSTGRES_URL
  elasticsearch=${PGSYNCD_TEST_ELASTICSEARCH_URL%/}
  # The last part of the path is the database; parameters may follow it.
  [[ $server =~ ^([^?]*//[^/?]+)(/[^?]*)?(\?.*)?$ ]] || fail "not understood: PGSYNCD_TEST_POSTGRES_URL"
  source_url=${BASH_REMATCH[1]}/$database${BASH_REMATCH[3]:-}
}

make_database() {
  local name
  for name in $(curl_quietly "$elasticsearch/_cat/indices/orders?h=index" || true) $(indexes_by_date); do
    fail "there is an index \`$name\` already, and it is not the demo's to replace"
  done
  run_sql "$server" -c "CREATE DATABASE $database" 2>/dev/null ||
    fail "database \`$database\` cannot be made: if it is left from an earlier demo, drop it"
  made_database=yes
  run_sql "$source_url" -f examples/shop/tables.sql
  step "database \`$database\`: the tables and rows of examples/shop/tables.sql"
}

start_daemon() {
  # Nothing of this shell's own configuration, nor of a `.env`, takes part: only what is named here.
  mkdir -p "$logs/pgsyncd"
  local http
  http=$(free_port)
  # In a session of its own: Ctrl-C reaches this script alone, which then stops it once.
  (cd "$logs/pgsyncd" && exec setsid env -i PATH="$PATH" HOME="${HOME:-/}" \
    SCHEMA="$OLDPWD/examples/shop/schema.json" PG_URL="$source_url" \
    ELASTICSEARCH_URL="$elasticsearch" CHECKPOINT_PATH="$logs/pgsyncd" \
    PGSYNCD_NAME=demo PGSYNCD_HTTP_ADDR="127.0.0.1:$http" \
    "$OLDPWD/$binary") >"$logs/pgsyncd.log" 2>&1 &
  daemon=$!
  status_url=http://127.0.0.1:$http
  local began deadline=$((SECONDS + start_limit_seconds))
  began=$(milliseconds)
  until curl_quietly "$status_url/ready" >/dev/null; do
    kill -0 "$daemon" 2>/dev/null || fail_with_log "pgsyncd ended while it started"
    ((SECONDS < deadline)) || fail_with_log "pgsyncd is not ready after $start_limit_seconds s"
    sleep 0.05
  done
  step "pgsyncd runs: first load done and streaming after $(($(milliseconds) - began)) ms"
}

# ---------------------------------------------------------------- the show

show_change() {
  step "the document of order $order, made from four tables (without \`_meta\`, the keys of its rows):"
  document "?pretty&_source_excludes=_meta" | sed 's/^/       /'

  local old new took
  old=$(run_sql "$source_url" -c "SELECT name FROM product WHERE id = 1")
  new="Fountain pen $RANDOM"
  [[ $(document) == *"\"$old\""* ]] || fail_with_log "the document does not show product \`$old\`"
  step "UPDATE product SET name = '$new' WHERE id = 1     -- a grandchild of the order"
  took=$(change_and_measure "$new") ||
    fail_with_log "the document did not change within $change_limit_seconds s"
  step "its items, $took ms after the commit:"
  document "?pretty&_source_includes=items" | sed 's/^/       /'
}

# change_and_measure NEW: from the moment that the server has confirmed the commit until a read of
# the document by its id shows the new value. curl asks again and again on one connection: what
# follows the # never reaches the server.
change_and_measure() {
  local new=$1 began body seconds=$change_limit_seconds
  run_sql "$source_url" -c "UPDATE product SET name = '$new' WHERE id = 1" -c '\echo committed' |
    grep -q committed
  began=$(milliseconds)
  while read -r body; do
    [[ $body != *"\"$new\""* ]] || { echo $(($(milliseconds) - began)) && return; }
  done < <(curl --noproxy '*' -s -m "$seconds" -w '\n' "$elasticsearch/orders/_source/$order#[1-1000000]")
  return 1
}

say_where_to_look() {
  cat <<WHERE

  Look:    curl '$elasticsearch/orders/_search?pretty'
           curl $status_url/status          also /ready /live /metrics
           PGSYNCD_HTTP_ADDR=${status_url#http://} $binary status
  Change:  psql '$source_url'
           for example: UPDATE customer SET name = 'Ada L.' WHERE id = 1;
                        DELETE FROM item WHERE id = 3;
  Log:     $logs/pgsyncd.log

  Ctrl-C stops everything and removes it.
WHERE
}

# What the daemon has made in the database is a slot and a publication, and nothing else.
check_database_is_clean() {
  local found
  found=$(run_sql "$source_url" -c "
    SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),
           (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
           (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
           (SELECT count(*) FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace)")
  [[ $found == "1|1|0|0|0" ]] ||
    fail "expected 1 slot, 1 publication and no trigger, function or view, found $found"
}

# ---------------------------------------------------------------- tools

document() {
  curl_quietly "$elasticsearch/orders/_source/$order${1:-}"
}

# What stands behind the alias `orders`: orders-20260102030405.
indexes_by_date() {
  curl_quietly "$elasticsearch/_cat/indices/orders-2*?h=index" || true
}

run_sql() {
  local url=$1
  shift
  psql -X -q -A -t -v ON_ERROR_STOP=1 "$url" "$@"
}

curl_quietly() {
  curl --noproxy '*' -fs -m 10 "$@"
}

milliseconds() {
  echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# Below the range from which the kernel takes the ports of outgoing connections.
free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" && return; }
  done
  fail "no free port found"
}

step() {
  echo "demo:  $*"
}

fail() {
  echo "demo:  $*" >&2
  exit 1
}

fail_with_log() {
  { echo "--- last lines of $logs/pgsyncd.log" && tail -n 25 "$logs/pgsyncd.log" && echo "---"; } >&2
  fail "$*"
}

# ---------------------------------------------------------------- the end

# shellcheck disable=SC2329 # called by the trap
finish() {
  local status=$?
  trap '' INT TERM
  [[ -z $bring_up ]] || kill -TERM -- "-$bring_up" 2>/dev/null || true
  if [[ -n $daemon ]] && kill -TERM "$daemon" 2>/dev/null; then
    echo
    step "stopping"
    wait "$daemon" || true
  fi
  [[ -z $made_database ]] || remove_what_was_made || true
  tests/services.sh down 2>/dev/null || true
  if ((status == 0 || status == 130)) && [[ $logs == */pgsyncd-demo-$UID-$$ ]]; then
    rm -rf "$logs"
  elif [[ -d $logs ]]; then
    step "the logs are in $logs"
  fi
  exit "$status"
}

# On servers that were given. The daemon has ended, so its slot is free.
remove_what_was_made() {
  local slot index
  for slot in $(run_sql "$server" -c "SELECT slot_name FROM pg_replication_slots WHERE database = '$database'"); do
    run_sql "$server" -c "SELECT pg_drop_replication_slot('$slot')" >/dev/null
  done
  run_sql "$server" -c "DROP DATABASE IF EXISTS $database WITH (FORCE)"
  for index in $(indexes_by_date); do
    curl_quietly -o /dev/null -X DELETE "$elasticsearch/$index"
  done
}

main "$@"
