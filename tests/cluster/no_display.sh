#!/bin/bash
#SBATCH --partition={{ cluster.partition | directive }}
{% include "prelude.sh" %}
export PYTHONPATH={{ app.pythonpath }}
unset DISPLAY
hpcbridge_run {{ app.pvpython }} --force-offscreen-rendering launch.py {{ app.script }} --port "$HPCBRIDGE_PORT"
