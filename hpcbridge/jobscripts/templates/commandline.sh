#!/bin/bash
# Any program that serves on a port, with a command line of its own: the application's "command",
# word by word. It has to hold ${job.port}, and the secret as ${job.launch} or ${job.secret_file}.
#
# Placeholders in double braces become values, each quoted for the shell; directive lines
# need "| directive" instead, and options.sh writes those of the cluster's batch system.
#   command       the words of the application's command, each quoted already
#   app.NAME      the properties of this application: directory, where the program starts; may be
#                 left out
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

# Before Python starts, or a ready line stays in its buffer.
export PYTHONUNBUFFERED=1

command=(
{% for word in command %}
  {{ word }}
{% endfor %}
)
start() {
{% if app.directory is defined %}
  cd {{ app.directory }} || exit 1
{% endif %}
  exec "${hpcbridge_inside[@]}" "${command[@]}"
}
hpcbridge_run start
