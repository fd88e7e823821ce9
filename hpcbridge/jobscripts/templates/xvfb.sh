#!/bin/bash
# For ParaViewWeb's servers under a ParaView 5.x that was built for X11, as most were: drawn in
# software on a virtual X display. For any ParaView, and trame: paraview.sh.
#
# Placeholders in double braces become values, each quoted for the shell; directive lines
# need "| directive" instead, and options.sh writes those of the cluster's batch system.
#   app.NAME      the properties of this application: pvpython, script; pythonpath, data, content,
#                 timeout, screen may be left out
#   param.NAME    what the user chose, handed to the script as --NAME=VALUE
#   cluster.NAME  the options of the cluster, all of which may be left out
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

{% if app.pythonpath is defined %}
export PYTHONPATH={{ app.pythonpath }}  # where wslink is
{% endif %}

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT")
arguments+=(--timeout {{ app.timeout | default(300) }})  # seconds without a viewer
{% if app.data is defined %}
arguments+=(--data {{ app.data }})
{% endif %}
{% if app.content is defined %}
arguments+=(--content {{ app.content }})
{% endif %}
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

hpcbridge_xvfb {{ app.screen | default("1920x1080") }}
# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run "${hpcbridge_inside[@]}" {{ app.pvpython }} --force-offscreen-rendering \
  launch.py {{ app.script }} "${arguments[@]}"
