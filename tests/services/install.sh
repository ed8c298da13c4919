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
    # Debian 12 has 17, Debian 13 has 21: either runs these.
    [[ $name != @(elasticsearch[78]|opensearch) ]] || java_for "$name" >/dev/null || packages+=(default-jdk-headless)
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
    opensearch) echo 'opensearch-*' ;;
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

# java_for NAME: prints the home of the oldest full JDK that can run it; fails if there is none.
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

# fetch FOLDER FILL ARTIFACT: makes the cache folder once, whoever asks first. FILL gets the artifact
# and a scratch directory, and fills `unpacked` in it. The folder appears by a rename, so one that is
# there is complete.
fetch() {
  local folder=$1 fill=$2 artifact=$3
  [[ ! -d $cache/$folder ]] || return 0
  (
    flock 8
    [[ ! -d $cache/$folder ]] || exit 0
    say "downloading $artifact"
    scratch=$(mktemp -d "$cache/.$folder.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    mkdir "$scratch/unpacked"
    "$fill" "$artifact" "$scratch"
    chmod -R a+rX "$scratch/unpacked"
    mv "$scratch/unpacked" "$cache/$folder"
  ) 8>"$cache/$folder.lock"
}

# maven SCRATCH GOAL OPTION…: with a local repository of its own, because two Mavens must not share
# one, and so that the big files go away with it.
maven() {
  local scratch=$1 goal=$2
  shift 2
  timeout "$download_limit_seconds" mvn -B -q -Dmaven.repo.local="$scratch/repository" \
    "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:$goal" "$@" >"$scratch/log" 2>&1 9>&- ||
    { tail -n 15 "$scratch/log" >&2 && die "Maven could not download: $goal $*"; }
}

# download ARTIFACT SCRATCH: leaves the one file at SCRATCH/file.
download() {
  local group=${1%%:*}
  maven "$2" get -Dtransitive=false -Dartifact="$1"
  find "$2/repository/${group//./\/}" -type f -name "*.${1##*:}" -exec mv {} "$2/file" \;
}

fill_postgres() {
  download "$@"
  unzip -p "$2/file" '*.txz' | tar xJ -C "$2/unpacked"
}

fill_elasticsearch() {
  download "$@"
  unzip -q "$2/file" '*/elasticsearch/*' -d "$2/whole"
  mv "$2"/whole/*/elasticsearch/* "$2/unpacked"
}

# Gives 7.17 the field types that its distribution leaves out: scaled_float, rank_feature,
# search_as_you_type, token_count. 8 and 9 have no such module on Maven Central.
fill_elasticsearch_7() {
  local modules=$2/unpacked/modules
  fill_elasticsearch "$@"
  mkdir "$modules/mapper-extras"
  download org.elasticsearch.plugin:mapper-extras-client:7.17.15:jar "$2"
  mv "$2/file" "$modules/mapper-extras/mapper-extras-client-7.17.15.jar"
  sed -e 's/^name=.*/name=mapper-extras/' -e 's/^description=.*/description=More field types/' \
    -e 's/^classname=.*/classname=org.elasticsearch.index.mapper.MapperExtrasPlugin/' \
    "$modules/parent-join/plugin-descriptor.properties" >"$modules/mapper-extras/plugin-descriptor.properties"
}

# A server to embed, with all that it depends on.
fill_opensearch() {
  local group name version
  IFS=: read -r group name version <<<"$1"
  cat >"$2/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId><artifactId>opensearch</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>$group</groupId><artifactId>$name</artifactId><version>$version</version>
  </dependency></dependencies>
</project>
POM
  maven "$2" copy-dependencies -f "$2/pom.xml" -DincludeScope=runtime -DoutputDirectory="$2/unpacked/lib"
}
