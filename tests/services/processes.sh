# shellcheck shell=bash disable=SC2154,SC2329,SC2034 # sourced by tests/services.sh, which sets run, cache and the rest
#
# Server processes: started in a session of their own, known by process id and start time, and
# stopped with all of their children.

readonly stop_limit_seconds=20

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

# In clock ticks since boot; empty when there is no such process or only its zombie.
start_time_of() {
  local line
  { line=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  # The name in parentheses may hold blanks; the state follows it as field 3, the time is field 22.
  read -ra line <<<"${line##*) }"
  [[ ${line[0]} == Z ]] || echo "${line[19]}"
}

process_is_running() {
  local pid started
  [[ -s $run/$1.pid ]] || return 1
  read -r pid started <"$run/$1.pid"
  [[ -n $started && $(start_time_of "$pid") == "$started" ]]
}

stop_process() {
  local name=$1 pid signal=TERM deadline=$((SECONDS + stop_limit_seconds))
  read -r pid _ <"$run/$name.pid"
  # PostgreSQL waits for its clients on SIGTERM, and sends them away on SIGINT.
  [[ $name != postgres* ]] || signal=INT
  if process_is_running "$name"; then
    kill -"$signal" "$pid"
    while process_is_running "$name" && ((SECONDS < deadline)); do sleep 0.05; done
    ! process_is_running "$name" || say "$name: still there after $stop_limit_seconds s, killed"
    kill_group "$pid"
  elif [[ -z $(start_time_of "$pid") ]]; then
    # The launcher is gone, but its server may have outlived it.
    kill_group "$pid"
  fi
}

kill_group() {
  kill -KILL -- "-$1" 2>/dev/null || true
}
