#!/usr/bin/env bash
# Checks everything: format, lints, unit tests, documentation, and the end-to-end tests against real
# servers, which `tests/services.sh` brings up while cargo compiles. Ends at the first failure.
#
# The end-to-end tests run twice: on PostgreSQL 15 with Elasticsearch 7.17, and on the newer pair.
# Servers named by PGSYNCD_TEST_{POSTGRES,ELASTICSEARCH,…}_URL are used instead of started.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# A run directory of its own, so that two runs (or a demo) on one machine do not meet.
PGSYNCD_SERVICES_DIR=${PGSYNCD_SERVICES_DIR:-/var/tmp/pgsyncd-tests-$UID-$$}
export PGSYNCD_SERVICES_DIR
# Far above what they take: a test that hangs is a failure, not a wait.
readonly test_limit_seconds=1200
bring_up=""

main() {
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  prepare
  start_services

  section "format" cargo fmt --check
  section "lints" cargo clippy --all-targets --locked -- -D warnings
  section "unit tests" timeout --foreground "$test_limit_seconds" cargo test --locked
  section "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
  section "servers" wait_for_services
  eval "$(tests/services.sh env)"
  section "end-to-end tests, older pair" end_to_end
  section "end-to-end tests, newer pair" end_to_end_on_newer_pair
  echo
  echo "all passed in $SECONDS s, on these servers:"
  tests/services.sh status
}

# section TITLE COMMAND…
section() {
  local title=$1 began=$SECONDS
  shift
  echo
  echo "== $title"
  # Not in an `if`: there `set -e` would not hold inside the functions.
  "$@"
  echo "== $title: passed in $((SECONDS - began)) s"
}

# Every test binary under tests/, with the tests that are ignored where there are no servers. They
# wait for servers most of the time: more of them at once than there are cores.
end_to_end() {
  RUST_TEST_THREADS=${RUST_TEST_THREADS:-5} timeout --foreground "$test_limit_seconds" cargo test --locked --test '*' -- --include-ignored
}

# The tests read one set of variables; PGSYNCD_TEST_PAIR tells them which pair that is.
end_to_end_on_newer_pair() (
  : "${PGSYNCD_TEST_POSTGRES_NEWER_URL:?no newer PostgreSQL}"
  : "${PGSYNCD_TEST_ELASTICSEARCH_NEWER_URL:?no newer Elasticsearch}"
  export PGSYNCD_TEST_PAIR=newer \
    PGSYNCD_TEST_POSTGRES_URL="$PGSYNCD_TEST_POSTGRES_NEWER_URL" \
    PGSYNCD_TEST_POSTGRES_CA="${PGSYNCD_TEST_POSTGRES_NEWER_CA:-}" \
    PGSYNCD_TEST_ELASTICSEARCH_URL="$PGSYNCD_TEST_ELASTICSEARCH_NEWER_URL"
  end_to_end
)

# What a fresh machine may lack: a C compiler (for ring and mimalloc), rustfmt, clippy.
prepare() {
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup, then run this again"
  if ! command -v cc >/dev/null; then
    ((UID == 0)) || fail "a C compiler is missing: apt-get install build-essential"
    apt-get update -q && apt-get install -yq --no-install-recommends build-essential
  fi
  cargo fmt --version >/dev/null 2>&1 || add_component rustfmt
  cargo clippy --version >/dev/null 2>&1 || add_component clippy
}

add_component() {
  command -v rustup >/dev/null ||
    fail "cargo has no $1, and there is no rustup to add it: install your distribution's package for it"
  rustup component add "$1"
}

# In a process group of its own, so that `finish` can end a download with it.
start_services() {
  mkdir -p "$PGSYNCD_SERVICES_DIR"
  setsid tests/services.sh up >"$PGSYNCD_SERVICES_DIR/up.log" 2>&1 &
  bring_up=$!
}

wait_for_services() {
  local status=0
  wait "$bring_up" || status=$?
  bring_up=""
  cat "$PGSYNCD_SERVICES_DIR/up.log"
  ((status == 0)) || fail "servers are missing: $(tests/services.sh status | grep 'not started')"
}

# shellcheck disable=SC2329 # called by the trap
finish() {
  local status=$?
  trap '' INT TERM
  [[ -z $bring_up ]] || kill -TERM -- "-$bring_up" 2>/dev/null || true
  if ((status)); then
    echo
    echo "FAILED after $SECONDS s; the servers' logs are in $PGSYNCD_SERVICES_DIR"
    tests/services.sh down 2>/dev/null || true
  else
    tests/services.sh down 2>/dev/null || true
    [[ $PGSYNCD_SERVICES_DIR != */pgsyncd-tests-$UID-$$ ]] || rm -rf "$PGSYNCD_SERVICES_DIR"
  fi
  exit "$status"
}

fail() {
  echo "tests/run.sh: $*" >&2
  exit 1
}

main "$@"
