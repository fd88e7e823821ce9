#!/bin/bash
# Any program that serves on a port and needs nothing from hpcbridge but the port's number.
# It finds the session's secret, if it wants it, in the file "secret" of its working directory.
#
# Placeholders in double braces become values, each quoted for the shell; directive lines
# need "| directive" instead, and options.sh writes those of the cluster's batch system.
#   app.NAME      the properties of this application: program
#   param.NAME    what the user chose, handed to the program as --NAME=VALUE
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT")
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

hpcbridge_run "${hpcbridge_inside[@]}" {{ app.program }} "${arguments[@]}"
