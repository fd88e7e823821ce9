#!/bin/bash
# A trame application, on VTK or anything else that a Python environment holds. (On ParaView:
# paraview.sh.) It serves its own page and WebSocket on one port and says "App running at:".
#
# Placeholders in double braces become values, each quoted for the shell; directive lines
# need "| directive" instead, and options.sh writes those of the cluster's batch system.
#   app.NAME      the properties of this application: script, or module for "python -m"; left out
#                 may be arguments (a list of more words for it), venv (a virtual environment) or
#                 python (an interpreter), pythonpath
#   param.NAME    what the user chose, handed to the application as --NAME=VALUE
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

{% if app.pythonpath is defined %}
export PYTHONPATH={{ app.pythonpath }}
{% endif %}
unset TRAME_ARGS  # trame would take it in place of all arguments below

{% if app.python is defined %}
python={{ app.python }}
{% elif app.venv is defined %}
python={{ app.venv }}/bin/python
{% else %}
python={{ bridge.python }}
{% endif %}

# Without a timeout: a session that nobody looks at is ended by the application's setting "idle".
arguments=(--server --host {{ job.bind }} --port "$HPCBRIDGE_PORT" --timeout 0)
{% for each in app.arguments | default([]) %}
arguments+=({{ each }})
{% endfor %}
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

# launch.py hands trame a file with the session's secret that only this process can see.
hpcbridge_run "${hpcbridge_inside[@]}" "$python" launch.py --secret-file --authKeyFile \
{% if app.module is defined %}
  -m {{ app.module }} "${arguments[@]}"
{% else %}
  {{ app.script }} "${arguments[@]}"
{% endif %}
