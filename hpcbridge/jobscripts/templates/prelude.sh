# What every hpcbridge job does first. Templates include this text; it gives them
#
#   HPCBRIDGE_DIRECTORY         the session directory (mode 0700), also the working directory
#   HPCBRIDGE_PORT              a TCP port of this node that nothing uses
#   hpcbridge_xvfb [1920x1080]  start a virtual display that only this job can open; sets DISPLAY
#   hpcbridge_run COMMAND...    run the application and wait for it; its exit status is the job's
#
# and ends whatever they started, when the script ends or is told to end. Bash 4.2 or later.

umask 077
ulimit -c 0  # a core file would hold the key of the session
cd {{ job.directory }} || { echo "hpcbridge: no session directory on $HOSTNAME" >&2; exit 1; }
exec >>output.log 2>&1 </dev/null
# What a run before this one left, where the job is run again. This one takes another port: by that the
# service can tell the two apart.
HPCBRIDGE_PORT=''
if [[ -e status ]]; then
  HPCBRIDGE_PORT=$(sed -n 's/^port=//p' status)
  command rm -f status
fi
[[ ! -s output.log ]] || hpcbridge_told="log=$(wc -c <output.log)"$'\n'
export HPCBRIDGE_DIRECTORY={{ job.directory }}
# Python buffers what it prints to a file, unless this is set before it starts: a ready line in a
# buffer is as good as none.
export PYTHONUNBUFFERED=1

# Tell the service something: KEY=VALUE, one a line, in a file that is never seen half written.
hpcbridge_tell() {
  hpcbridge_told+=$1$'\n'
  printf '%s' "$hpcbridge_told" >status.tmp && command mv -f status.tmp status
}

# Choose a free port and export it as the variable $1. Below the ports that the kernel gives to
# clients, so that only servers are in the way.
hpcbridge_pick_port() {
  local v4=() v6=() port pattern
  { mapfile -t v4 </proc/net/tcp; mapfile -t v6 </proc/net/tcp6; } 2>/dev/null
  local table="${v4[*]} ${v6[*]}"
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12768))
    printf -v pattern '*:%04X *' "$port"
    # shellcheck disable=SC2053 # a pattern is meant
    [[ $table == $pattern || $port == "$HPCBRIDGE_PORT" ]] || { export "$1=$port"; return; }
  done
  echo "hpcbridge: found no free port on $HOSTNAME" >&2
  exit 1
}

# Who listens on HPCBRIDGE_PORT: sets hpcbridge_listener to own or other, to nothing if nobody does,
# and hpcbridge_wide if others than this node's own processes can connect. In /proc/net/tcp, state
# 0A is LISTEN (proc_net_tcp(5)).
hpcbridge_look() {
  local v4=() v6=() line port owner
  hpcbridge_listener='' hpcbridge_wide=''
  printf -v port ':%04X' "$HPCBRIDGE_PORT"
  { mapfile -t v4 </proc/net/tcp; mapfile -t v6 </proc/net/tcp6; } 2>/dev/null
  for line in "${v4[@]}" "${v6[@]}"; do
    [[ $line == *"$port "*' 0A '* ]] || continue
    # shellcheck disable=SC2086 # fields: sl local remote state queues timer retransmits uid ...
    set -- $line
    [[ $2 == *"$port" && $4 == 0A ]] || continue
    [[ $2 == @(??????7F|*FFFF0000??????7F|00000000000000000000000001000000):* ]] || hpcbridge_wide=1
    owner=own
    if [[ $8 != "$EUID" ]] || hpcbridge_is_neighbours "${10}"; then owner=other; fi
    [[ $hpcbridge_listener == other ]] || hpcbridge_listener=$owner
  done
}

# Whether the socket with the inode $1 is of another session of this account. The application itself
# is looked at first, since all processes of a node are many.
hpcbridge_is_neighbours() {
  local holder where
  holder=$(find "/proc/$application/fd" /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$1\]" \
    -print -quit 2>/dev/null)
  [[ $holder && $holder != "/proc/$application/"* ]] || return 1
  where=$(HPCBRIDGE_DIRECTORY='' grep -zas '^HPCBRIDGE_DIRECTORY=' "${holder%/fd/*}/environ" |
    tr -d '\0')
  [[ $where && $where != "HPCBRIDGE_DIRECTORY=$HPCBRIDGE_DIRECTORY" ]]
}

# Tell who listens on the port, as soon as somebody does; whether somebody does.
hpcbridge_heard() {
  hpcbridge_look
  case $hpcbridge_listener in
    own)
{% if job.bind == "127.0.0.1" %}
      [[ $hpcbridge_wide ]] && hpcbridge_told+=$'wide=1\n'
{% endif %}
      hpcbridge_tell listening=1
      ;;
    other)
      echo "hpcbridge: port $HPCBRIDGE_PORT of $HOSTNAME was taken by somebody else" >&2
      hpcbridge_tell taken=1
      ;;
    *) return 1 ;;
  esac
}

# From "listening=0" on the service waits for what hpcbridge_heard tells. Who reads from a pipe that
# this shell itself holds open waits, and is interrupted by signals: sleep would be waited for.
hpcbridge_run() {
  local pause application looks=0 wait=.005 status=0
  hpcbridge_listener=''
  [[ ! -r /proc/net/tcp ]] || hpcbridge_tell listening=0
  exec {pause}<> <(:)
  "$@" {pause}>&- &
  application=$!
  while [[ -r /proc/net/tcp ]] && kill -0 "$application" 2>/dev/null; do
    read -r -t "$wait" -u "$pause" || :
    ! hpcbridge_heard || break
    case $((looks += 1)) in 20) wait=.1 ;; 600) wait=1.1 ;; esac
  done
  exec {pause}>&-
  wait "$application" || status=$?
  [[ $hpcbridge_listener != own ]] || hpcbridge_over "$status"
  return "$status"
}

# The application is over, by itself; the job is not, for its epilogue.
hpcbridge_over() {
  [[ $hpcbridge_told == *$'\nover='* ]] || hpcbridge_tell "over=$1"
}

# The cookie for display $1, or for any, as in Xauth(3); xauth(1) would show it in its arguments.
hpcbridge_cookie() {
  printf '\377\377\0\0\0\'"${#1}"'%s\0\022MIT-MAGIC-COOKIE-1\0\020%s' "$1" "$cookie"
}

hpcbridge_xvfb() {
  hpcbridge_xserver Xvfb -screen 0 "${1:-1920x1080}x24" -noreset
}

# Start the X server $1 with these options on a free display, which only this job can open.
hpcbridge_xserver() {
  local display output cookie LC_ALL=C
  if ! command -v "$1" >/dev/null; then
    echo "hpcbridge: $1 is not installed on $HOSTNAME" >&2
    exit 1
  fi
  XAUTHORITY=$(mktemp "$HPCBRIDGE_DIRECTORY/Xauthority.XXXXXX") || exit 1
  export XAUTHORITY
  IFS= read -r -N 16 cookie </dev/urandom
  hpcbridge_cookie >"$XAUTHORITY" || exit 1
  exec {output}< <(
    exec "$@" -displayfd 4 -auth "$XAUTHORITY" -nolisten tcp 4>&1 1>&2
  )
  if ! read -r -t 15 display <&"$output" || [[ -z $display ]]; then
    echo "hpcbridge: $1 was not ready after 15 seconds; what it said is above" >&2
    exit 1
  fi
  exec {output}<&-
  # From now on for this display only: programs that try other people's displays must not show it.
  hpcbridge_cookie "$display" >"$XAUTHORITY.new" && command mv -f "$XAUTHORITY.new" "$XAUTHORITY"
  export DISPLAY=:$display
}

# Find what this script started and what still runs of it: its descendants, its process group and
# session where it leads them, and whoever carries its environment (a daemon has left all three).
hpcbridge_find() {
  local stat line pid up depth
  local -a parent=() group=() session=()
  hpcbridge_found=()
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    pid=${line%% *}
    # shellcheck disable=SC2086 # fields: state parent group session ...
    set -- ${line##*) }
    [[ $1 == [ZX] ]] && continue
    parent[pid]=$2 group[pid]=$3 session[pid]=$4
  done
  for pid in $(HPCBRIDGE_DIRECTORY='' grep -lszxF -e "HPCBRIDGE_DIRECTORY=$HPCBRIDGE_DIRECTORY" \
    /proc/[0-9]*/environ); do
    pid=${pid#/proc/}
    pid=${pid%/environ}
    [[ -n ${parent[pid]} ]] && group[pid]=$$
  done
  for pid in "${!parent[@]}"; do
    ((pid == $$)) && continue
    for ((up = pid, depth = 0; up > 1 && up != $$ && depth < 99; depth++)); do
      up=${parent[up]:-0}
    done
    ((up == $$ || group[pid] == $$ || session[pid] == $$)) && hpcbridge_found+=("$pid")
  done
  ((${#hpcbridge_found[@]}))
}

# TERM first, once a process; KILL for those that are left after HPCBRIDGE_GRACE seconds. Nothing is
# left when nothing is found twice: a process that hands over to its child while /proc is read (as a
# daemon does) is not seen, nor is the child. On a busy node one look may take seconds.
hpcbridge_end() {
  local asked=' ' pid none=0 killed=0 deadline=$((SECONDS + ${HPCBRIDGE_GRACE:-5}))
  while ((none < 2)); do
    if ! hpcbridge_find; then
      none=$((none + 1))
      continue
    fi
    none=0
    ((killed > 2 && SECONDS > deadline + 5)) && return  # what KILL does not end, nothing here can
    if ((SECONDS >= deadline)); then
      kill -KILL "${hpcbridge_found[@]}" 2>/dev/null || :
      killed=$((killed + 1))
    fi
    for pid in "${hpcbridge_found[@]}"; do
      [[ $asked == *" $pid "* ]] || kill -TERM "$pid" 2>/dev/null
      asked+="$pid "
    done
    sleep 0.05
  done
}

# environment.sh puts the site's own in its place.
hpcbridge_epilogue() { :; }

hpcbridge_exit() {
  local status=$?
  trap '' TERM INT HUP
  trap - EXIT
  [[ $hpcbridge_asked ]] || hpcbridge_over "$status" 2>/dev/null
  hpcbridge_end
  hpcbridge_epilogue "$status"
  hpcbridge_tell "exit=$status" 2>/dev/null
{% if job.scheduler == "gridengine" %}
  # Grid Engine takes 99 for "run me again" and 100 for "put me in error" (sge_diagnostics(1)).
  [[ $status == 99 || $status == 100 ]] && exit 1
{% endif %}
  exit "$status"
}
trap hpcbridge_exit EXIT
# Whoever asked for the end knows more of it than the job: a walltime, a cancellation, a requeue.
trap 'hpcbridge_asked=1; exit 143' TERM
trap 'hpcbridge_asked=1; exit 130' INT
trap 'hpcbridge_asked=1; exit 129' HUP

hpcbridge_pick_port HPCBRIDGE_PORT
hpcbridge_tell "port=$HPCBRIDGE_PORT"
