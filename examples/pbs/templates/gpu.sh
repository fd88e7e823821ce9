#!/bin/bash
# The same with GPUs. "ngpus" is what most sites call them; a site may have another name, or none:
# then qsub says "Unknown resource".
#PBS -q {{ cluster.queue | directive }}
#PBS -A {{ cluster.account | directive }}
#PBS -l select=1:ncpus={{ cluster.cpus | directive }}:mem={{ cluster.memory | directive }}:ngpus={{ app.gpus | directive }}
#PBS -l place=pack

{% include "prelude.sh" %}

export VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow
# PBS hides the GPUs of other jobs by CUDA_VISIBLE_DEVICES; the first that is left is ours.
gpu=${CUDA_VISIBLE_DEVICES%%,*}
[[ $gpu =~ ^[0-9]+$ ]] && export VTK_DEFAULT_EGL_DEVICE_INDEX=$gpu

hpcbridge_run {{ bridge.python }} launch.py {{ app.script }} \
  --host {{ job.bind }} --port "$HPCBRIDGE_PORT" --timeout 300
