#!/bin/bash
# A qsub script. Placeholders in double braces become values, each one word, quoted for the shell;
# lines that begin with #PBS take "| directive" instead. Job name, output and walltime are options
# of hpcbridge's own qsub command, which win over directives.
#   app.NAME      the application's properties    param.NAME   what the user chose
#   cluster.NAME  the cluster's options           job.NAME     name, directory, walltime, bind
#PBS -q {{ cluster.queue | directive }}
#PBS -A {{ cluster.account | directive }}
#PBS -l select=1:ncpus={{ cluster.cpus | directive }}:mem={{ cluster.memory | directive }}
#PBS -l place=pack

{% include "prelude.sh" %}

# Sites with modules load them here:
# module load paraview

hpcbridge_xvfb
# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run pvpython --force-offscreen-rendering launch.py {{ app.script }} \
  --host {{ job.bind }} --port "$HPCBRIDGE_PORT" --timeout 300 \
  --data {{ app.data }} --load-file={{ param.file }}
