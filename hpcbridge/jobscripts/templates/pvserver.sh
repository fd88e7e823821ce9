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
{% include "ranks.sh" %}

{% if app.pythonpath is defined %}
export PYTHONPATH={{ app.pythonpath }}  # where wslink is
{% endif %}

{% set display = app.display | default("xvfb") | choice("xvfb", "egl", "none") %}
read -ra mpi <<<{{ app.mpi | default("mpiexec") }}
hpcbridge_ranks {{ display }} {{ app.screen | default("1920x1080") }}
hpcbridge_pvserver {{ app.pvserver }}

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT" --reverse-connect-port "$pvserver_port")
arguments+=(--timeout {{ app.timeout | default(300) }})  # seconds without a viewer
{% if app.data is defined %}
arguments+=(--data {{ app.data }})
{% endif %}
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

{% if display == "xvfb" %}
hpcbridge_xvfb {{ app.screen | default("1920x1080") }}
{% endif %}
# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run "${hpcbridge_inside[@]}" {{ app.pvpython }} --force-offscreen-rendering \
  --connect-id="$pvserver_id" launch.py {{ app.script }} "${arguments[@]}"
