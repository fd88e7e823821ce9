# What the ranks of an MPI program do, on whichever node each is; after environment.sh. Needs mpi, an
# array: the command that starts them. Gives templates
#
#   hpcbridge_ranks RENDERING SCREEN    write rank.sh: a display (xvfb), or a GPU if any, for each
#   hpcbridge_pvserver COMMAND...       start pvserver so, and end the job when it fails; sets
#                                       pvserver_port and pvserver_id, by which pvpython knows it

# srun would keep a ready line without a line end until the next one comes.
export SLURM_UNBUFFEREDIO=1

hpcbridge_ranks() {
  local name
  {
    # Not every mpiexec hands the environment on.
    for name in HPCBRIDGE_DIRECTORY PYTHONUNBUFFERED PYTHONPATH LD_LIBRARY_PATH \
      VTK_DEFAULT_OPENGL_WINDOW; do
      [[ ! -v $name ]] || declare -p "$name"
    done
    case $1 in
      xvfb)
        declare -f hpcbridge_cookie hpcbridge_xserver hpcbridge_xvfb
        printf 'hpcbridge_xvfb %q\n' "$2"
        ;;
      egl | auto)
        declare -f hpcbridge_find_gpus
        echo hpcbridge_find_gpus
        echo 'rank=${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-${SLURM_LOCALID:-0}}}'
        echo 'count=${#hpcbridge_gpus[@]}'
        echo '((count)) && export VTK_DEFAULT_EGL_DEVICE_INDEX=${hpcbridge_gpus[rank % count]}'
        ;;
    esac
    echo 'exec "$@"'
  } >rank.sh
}

# Here pvserver connects to pvpython: the other way round, any host of the network could be first
# to connect to pvserver and have it run programs.
hpcbridge_pvserver() {
  hpcbridge_pick_port pvserver_port
  pvserver_id=$((RANDOM << 15 | RANDOM))
  # KILL, because pvpython would print a page about TERM below what pvserver said.
  trap 'kill -KILL "$!"; exit 1' USR1
  {
    "${mpi[@]}" bash rank.sh "${hpcbridge_inside[@]}" "$@" --force-offscreen-rendering \
      --reverse-connection --client-host="$(hostname)" --server-port="$pvserver_port" \
      --connect-id="$pvserver_id" ||
      { echo "hpcbridge: pvserver ended with status $?" >&2; kill -USR1 $$; }
  } &
}
