#!/bin/bash
# A Python server under ParaView 5 or 6: ParaViewWeb's own servers (visualizer and others), scripts
# that speak wslink, and trame applications on ParaView, with or without a display.
#
# Placeholders in double braces become values, each quoted for the shell; directive lines
# need "| directive" instead, and options.sh writes those of the cluster's batch system.
#   app.NAME      the properties of this application: script, or module for "python -m"; left out
#                 may be
#                   pvpython    the program; "pvpython"
#                   rendering   xvfb (software, on a virtual X display), egl (a GPU, or software),
#                               osmesa (software), or auto, which asks pvpython; 5.x was built for
#                               one of them, 6 has all and needs no display
#                   libraries   a folder with libOSMesa, or other libraries that the nodes lack
#                   venv        a virtual environment for pvpython --venv, such as one with trame
#                   pythonpath  the same for a pvpython that has no --venv: where wslink is
#                   mpi         how many processes draw together, by MPI: pvbatch with the script
#                               in the first, or, where pvserver is named, pvserver behind pvpython
#                   mpiexec     the command that starts them; "srun" in Slurm, else "mpiexec"
#                   pvbatch, pvserver    these programs; "pvbatch", and none
#                   trame       true for a trame application
#                   arguments   a list of more words for the application
#                   data, content, screen
#                   timeout     seconds without a viewer; 300, and none with trame
#   param.NAME    what the user chose, handed to the script as --NAME=VALUE
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}
{% set by_mpi = app.mpi is defined or app.mpiexec is defined or app.pvbatch is defined
   or app.pvserver is defined %}
{% if by_mpi %}
{% include "ranks.sh" %}
{% endif %}

{% if app.pythonpath is defined %}
export PYTHONPATH={{ app.pythonpath }}
{% endif %}
{% if app.libraries is defined %}
export LD_LIBRARY_PATH={{ app.libraries }}
{% endif %}
unset TRAME_ARGS  # trame would take it in place of all arguments below
pvpython=("${hpcbridge_inside[@]}" {{ app.pvpython | default("pvpython") }})

{% set rendering = app.rendering | default("auto") | choice("xvfb", "egl", "osmesa", "auto") %}
rendering={{ rendering }}
{% if rendering == "auto" %}
# A build with X11 and nothing else (most of 5.x) crashes without a display; all others choose.
asked='import vtkmodules.vtkRenderingOpenGL2 as gl
others = hasattr(gl, "vtkEGLRenderWindow") or hasattr(gl, "vtkOSOpenGLRenderWindow")
print("chooses" if others else "needs a display")'
if [[ $("${pvpython[@]}" -c "$asked") == *"needs a display"* ]]; then
  rendering=xvfb
fi
{% endif %}
case $rendering in
  egl) export VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow ;;
  osmesa) export VTK_DEFAULT_OPENGL_WINDOW=vtkOSOpenGLRenderWindow ;;
esac
{% if not by_mpi or app.pvserver is defined %}
[[ $rendering != xvfb ]] || hpcbridge_xvfb {{ app.screen | default("1920x1080") }}
{% endif %}
# The first GPU that was granted. Where the others are hidden, they are numbered from 0 anyway.
((${#hpcbridge_gpus[@]})) && export VTK_DEFAULT_EGL_DEVICE_INDEX=${hpcbridge_gpus[0]}

{% if by_mpi %}
{% if app.mpiexec is defined %}
read -ra mpi <<<{{ app.mpiexec }}
{% elif job.scheduler in ("slurm", "slurmrest") %}
mpi=(srun)
{% else %}
mpi=(mpiexec)
{% endif %}
mpi+=(-n {{ app.mpi | positive }})
hpcbridge_ranks "$rendering" {{ app.screen | default("1920x1080") }}
{% if app.pvserver is defined %}
hpcbridge_pvserver {{ app.pvserver }}
pvpython+=(--connect-id="$pvserver_id")
{% else %}
pvpython=("${mpi[@]}" bash rank.sh "${hpcbridge_inside[@]}" {{ app.pvbatch | default("pvbatch") }})
{% endif %}
{% endif %}
{% if app.venv is defined %}
pvpython+=(--venv {{ app.venv }})
{% endif %}
pvpython+=(--force-offscreen-rendering)

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT")
{% if app.trame is defined and app.trame %}
arguments+=(--server --timeout {{ app.timeout | default(0) }})
handed=(--secret-file --authKeyFile)
{% else %}
arguments+=(--timeout {{ app.timeout | default(300) }})
handed=()
{% endif %}
{% if app.pvserver is defined %}
arguments+=(--reverse-connect-port "$pvserver_port")
{% endif %}
{% if app.data is defined %}
arguments+=(--data {{ app.data }})
{% endif %}
{% if app.content is defined %}
arguments+=(--content {{ app.content }})
{% endif %}
{% for each in app.arguments | default([]) %}
arguments+=({{ each }})
{% endfor %}
{% for name in param %}
arguments+=(--{{ name }}={{ param[name] }})
{% endfor %}

# launch.py adds the session's secret inside the process, where no ps can show it.
hpcbridge_run "${pvpython[@]}" launch.py "${handed[@]}" \
{% if app.module is defined %}
  -m {{ app.module }} "${arguments[@]}"
{% else %}
  {{ app.script }} "${arguments[@]}"
{% endif %}
