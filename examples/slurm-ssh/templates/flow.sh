#!/bin/bash
# An sbatch script. Placeholders in double braces become values, each one word, quoted for the shell;
# lines that begin with #SBATCH take "| directive" instead.
#   app.NAME      the application's properties    param.NAME   what the user chose
#   cluster.NAME  the cluster's options           job.NAME     name, directory, walltime, bind
#SBATCH --partition={{ cluster.partition | directive }}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={{ cluster.cpus | directive }}
#SBATCH --mem={{ cluster.memory | directive }}
#SBATCH --time={{ job.walltime | hms }}

{% include "prelude.sh" %}

# Sites with modules load them here:
# module load paraview

# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run {{ bridge.python }} launch.py {{ app.script }} \
  --host {{ job.bind }} --port "$HPCBRIDGE_PORT" --timeout 300 --streamlines={{ param.streamlines }}
