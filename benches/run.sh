#!/usr/bin/env bash
# Measures the first load and the time from commit to readable, end to end, and prints the tables:
#
#   benches/run.sh
#
# Brings up PostgreSQL 15 and Elasticsearch 7.17 by tests/services.sh, and takes them down again;
# servers named by PGSYNCD_TEST_POSTGRES_URL and PGSYNCD_TEST_ELASTICSEARCH_URL are used instead.
#
#   PGSYNCD_BENCH_ORDERS     documents of the load (100000)
#   PGSYNCD_BENCH_CHANGES    single-row updates (300)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

PGSYNCD_SERVICES_DIR=${PGSYNCD_SERVICES_DIR:-/var/tmp/pgsyncd-bench-$UID-$$}
export PGSYNCD_SERVICES_DIR

# shellcheck disable=SC2329 # called by the trap
finish() {
  tests/services.sh down
  [[ $PGSYNCD_SERVICES_DIR != */pgsyncd-bench-$UID-$$ ]] || rm -rf "$PGSYNCD_SERVICES_DIR"
}

command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
trap finish EXIT
cargo bench --locked --bench end_to_end --no-run
tests/services.sh up postgres15 elasticsearch7
eval "$(tests/services.sh env)"
cargo bench --locked --bench end_to_end
