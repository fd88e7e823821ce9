#!/bin/bash
# For Python applications on VTK 9.4 or later (from PyPI, or your own build), which chooses its window
# when it starts: drawn in software by the node's libOSMesa, no GPU and no X server. For ParaView:
# paraview.sh.
#
# Placeholders in double braces become values, each quoted for the shell; directive lines
# need "| directive" instead, and options.sh writes those of the cluster's batch system.
#   app.NAME      the properties of this application: script; pythonpath, timeout and
#                 libraries (a folder with libOSMesa, where the nodes lack it) may be left out
#   param.NAME    what the user chose, handed to the script as --NAME=VALUE
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

export VTK_DEFAULT_OPENGL_WINDOW=vtkOSOpenGLRenderWindow
{% if app.libraries is defined %}
export LD_LIBRARY_PATH={{ app.libraries }}
{% endif %}
{% if app.pythonpath is defined %}
export PYTHONPATH={{ app.pythonpath }}
{% endif %}

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT")
arguments+=(--timeout {{ app.timeout | default(300) }})  # seconds without a viewer
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run "${hpcbridge_inside[@]}" {{ bridge.python }} \
  launch.py {{ app.script }} "${arguments[@]}"
