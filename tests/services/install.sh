# shellcheck shell=bash disable=SC2154,SC2329,SC2034 # sourced by tests/services.sh, which sets run, cache and the rest
#
# What the servers need on this machine: Debian packages, a JDK, and server programs from Maven
# Central, kept in the cache directory.

readonly download_limit_seconds=900

install_missing() {
  local name packages=()
  if [[ $engine == containers ]]; then
    want openssl openssl && want curl curl
    set --
  fi
  for name in "$@"; do
    case $name in
      postgres15*) want_postgres15 ;;
      postgres*) want openssl openssl && want_downloader "$name" ;;
      redis) want redis-server redis-server ;;
      elasticsearch* | opensearch) want curl curl && want_downloader "$name" ;;
    esac
    # Debian 12 has 17, Debian 13 has 21: either runs Elasticsearch 7 and 8.
    [[ $name != elasticsearch[78] ]] || java_for "$name" >/dev/null || packages+=(default-jdk-headless)
  done
  ((${#packages[@]})) || return 0
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  ((UID == 0)) || die "missing, and only root can install them: ${packages[*]}"
  say "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  refresh_package_lists
  apt-get install -yq --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}" \
    >>"$run/apt.log" 2>&1 || { tail -n 15 "$run/apt.log" >&2 && die "apt-get could not install ${packages[*]}"; }
}

# The server of this machine's distribution if it has that version; else the one from Maven Central.
want_postgres15() {
  want openssl openssl
  [[ ! -x /usr/lib/postgresql/15/bin/postgres ]] || return 0
  if ((UID == 0)) && refresh_package_lists && apt-cache show postgresql-15 >/dev/null 2>&1; then
    packages+=(postgresql-15)
  else
    want_downloader postgres15
  fi
}

refresh_package_lists() {
  [[ -z ${package_lists_are_fresh:-} ]] || return 0
  apt-get update -q >"$run/apt.log" 2>&1 || say "apt-get update failed, see $run/apt.log"
  package_lists_are_fresh=yes
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
    postgres15*) echo postgres-15.19.0 ;;
    postgres17) echo postgres-17.11.0 ;;
    elasticsearch7) echo elasticsearch-7.17.15 ;;
    elasticsearch8) echo elasticsearch-8.16.1 ;;
    elasticsearch9) echo elasticsearch-9.4.3 ;;
    *) echo none ;;
  esac
}

choose_user() {
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
  for release in "$jvms"/*/release; do
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
