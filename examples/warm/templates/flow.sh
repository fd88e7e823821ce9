#!/bin/bash
# hpcbridge's own demonstration: streamlines of a flow, by VTK and wslink, drawn without a display.
#
# Placeholders in double braces become values, each quoted for the shell:
#   param.NAME    what the user chose on the page or posted
#   job.bind      the address to listen on
#   job.walltime  seconds; the application's own limit must not end a session that waits for its user
#   bridge.python the Python that runs it

{% include "prelude.sh" %}

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT" --timeout {{ job.walltime }})
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run {{ bridge.python }} launch.py -m hpcbridge.apps.flow "${arguments[@]}"
