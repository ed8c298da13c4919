# shellcheck shell=bash disable=SC2154,SC2329,SC2034 # sourced by tests/services.sh, which sets run, cache and the rest
#
# The same servers as containers of the official images, with the same settings.

container_engine_answers() {
  case ${PGSYNCD_SERVICES_ENGINE:-auto} in
    processes) return 1 ;;
    containers) docker info >/dev/null || die "no Docker engine answers" ;;
    auto) command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1 ;;
    *) die "PGSYNCD_SERVICES_ENGINE is containers, processes or auto" ;;
  esac
}

start_container() {
  case $1 in
    postgres15) start_postgres_container "$1" postgres:15 logical ;;
    postgres15replica) start_postgres_container "$1" postgres:15 replica ;;
    postgres17) start_postgres_container "$1" postgres:17 logical ;;
    redis) start_redis_container "$1" redis:7-alpine ;;
    elasticsearch7) start_elasticsearch_container "$1" elasticsearch:7.17.15 ;;
    elasticsearch8) start_elasticsearch_container "$1" elasticsearch:8.16.1 ;;
    elasticsearch9) start_elasticsearch_container "$1" elasticsearch:9.4.3 ;;
    *) die_for "$1" "there is no image for it here: PGSYNCD_SERVICES_ENGINE=processes" ;;
  esac
}

start_postgres_container() {
  local name=$1 image=$2 mounted=$run/$1/services
  make_certificates
  mkdir "$mounted"
  postgres_settings "$3" >"$mounted/postgresql.conf"
  postgres_access_rules >"$mounted/pg_hba.conf"
  cp "$run"/tls/server.{crt,key} "$mounted"
  # The image runs this as the server's user after initdb, and then starts the server for good.
  cat >"$mounted/init.sh" <<'INIT'
cp /services/server.crt /services/server.key /services/pg_hba.conf "$PGDATA"
chmod 600 "$PGDATA/server.key"
cat /services/postgresql.conf >>"$PGDATA/postgresql.conf"
INIT
  chmod -R a+rX "$mounted"
  run_container "$name" 5432 -e POSTGRES_PASSWORD=postgres -v "$mounted:/services:ro" \
    -v "$mounted/init.sh:/docker-entrypoint-initdb.d/init.sh:ro" "$image"
  # Over TCP: during initialisation the image's server listens on its socket only.
  wait_for "$name" docker exec "$(<"$run/$name.container")" pg_isready -q -h 127.0.0.1
}

start_redis_container() {
  chmod 755 "$run/$1"
  cp "$project/config/redis.conf" "$run/$1/redis.conf"
  chmod 644 "$run/$1/redis.conf"
  run_container "$1" 6379 -v "$run/$1/redis.conf:/redis.conf:ro" "$2" \
    redis-server /redis.conf --protected-mode no
  wait_for "$1" redis_is_ready "$(<"$run/$1.port")"
}

start_elasticsearch_container() {
  run_container "$1" 9200 -e discovery.type=single-node -e xpack.security.enabled=false \
    -e ingest.geoip.downloader.enabled=false -e cluster.max_shards_per_node=5000 \
    -e cluster.routing.allocation.disk.threshold_enabled=false \
    -e action.destructive_requires_name=false -e ES_JAVA_OPTS="-Xms512m -Xmx512m" "$2"
  wait_for "$1" elasticsearch_is_ready "$(<"$run/$1.port")"
}

# run_container NAME CONTAINER_PORT OPTION… IMAGE [COMMAND…]
run_container() {
  local name=$1 inside=$2
  shift 2
  timeout "$download_limit_seconds" docker run -d -p "127.0.0.1:$(<"$run/$name.port"):$inside" "$@" \
    >"$run/$name.container" 2>"$run/$name.log" 9>&- ||
    { rm -f "$run/$name.container" && die_for "$name" "docker run failed" "$run/$name.log"; }
  docker inspect -f 'container {{.Config.Image}}' "$(<"$run/$name.container")" >"$run/$name/version"
}

container_is_running() {
  [[ -s $run/$1.container ]] &&
    [[ $(docker inspect -f '{{.State.Running}}' "$(<"$run/$1.container")" 2>/dev/null) == true ]]
}

save_container_log() {
  docker logs "$(<"$run/$1.container")" >>"$run/$1.log" 2>&1 || true
}

stop_container() {
  save_container_log "$1"
  docker rm -f -v "$(<"$run/$1.container")" >/dev/null
}
