#!/bin/bash
# ParaView in parallel: pvserver on all nodes of the job, started by MPI, and in front of it, on the
# job's first node, pvpython with ParaViewWeb's server.
#
# Placeholders in double braces become values, each quoted for the shell; directive lines
# need "| directive" instead, and options.sh writes those of the cluster's batch system.
#   app.NAME      the properties of this application: pvpython, pvserver, script; mpi (what starts
#                 pvserver on all nodes), display (xvfb; egl, a GPU a rank; or none, for OSMesa),
#                 screen, pythonpath, data, timeout may be left out
#   param.NAME    what the user chose, handed to the script as --NAME=VALUE
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

{% if app.pythonpath is defined %}
export PYTHONPATH={{ app.pythonpath }}  # where wslink is
{% endif %}

# Here pvserver connects to pvpython: the other way round, any host of the network could be first
# to connect to pvserver and have it run programs.
hpcbridge_pick_port pvserver_port
pvserver_id=$((RANDOM << 15 | RANDOM))

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT" --reverse-connect-port "$pvserver_port")
arguments+=(--timeout {{ app.timeout | default(300) }})  # seconds without a viewer
{% if app.data is defined %}
arguments+=(--data {{ app.data }})
{% endif %}
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

# What each rank does, on whichever node it is: a display or a GPU of its own, then pvserver.
{
{% if app.display | default("xvfb") == "xvfb" %}
  declare -f hpcbridge_cookie hpcbridge_xvfb
  echo hpcbridge_xvfb {{ app.screen | default("1920x1080") }}
{% elif app.display == "egl" %}
  declare -f hpcbridge_find_gpus
  echo hpcbridge_find_gpus
  echo 'rank=${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-${SLURM_LOCALID:-0}}}'
  echo 'count=${#hpcbridge_gpus[@]}'
  echo '((count)) && export VTK_DEFAULT_EGL_DEVICE_INDEX=${hpcbridge_gpus[rank % count]}'
{% endif %}
  echo 'exec "$@"'
} >rank.sh

read -ra mpi <<<{{ app.mpi | default("mpiexec") }}
# KILL, because pvpython would print a page about TERM below what pvserver said.
trap 'kill -KILL "$!"; exit 1' USR1
{
  "${mpi[@]}" bash rank.sh "${hpcbridge_inside[@]}" {{ app.pvserver }} --force-offscreen-rendering \
    --reverse-connection --client-host="$(hostname)" --server-port="$pvserver_port" \
    --connect-id="$pvserver_id" ||
    { echo "hpcbridge: pvserver ended with status $?" >&2; kill -USR1 $$; }
} &

{% if app.display | default("xvfb") == "xvfb" %}
hpcbridge_xvfb {{ app.screen | default("1920x1080") }}
{% endif %}
# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run "${hpcbridge_inside[@]}" {{ app.pvpython }} --force-offscreen-rendering \
  --connect-id="$pvserver_id" launch.py {{ app.script }} "${arguments[@]}"
