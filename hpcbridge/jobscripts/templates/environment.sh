# What a site does around its applications, as its options say; after prelude.sh. Gives templates
#
#   hpcbridge_inside      an array: what stands before a command so that it runs in the container
#   hpcbridge_gpus        an array: the GPUs that the batch system granted on this node, as numbers
{% if cluster.epilogue is defined %}
# Run when all else of the job has ended, for whatever reason, with the job's exit status.
hpcbridge_epilogue() { {{ cluster.epilogue }} "$1"; }
{% endif %}
{% if cluster.modules is defined %}
# A batch script is no login shell, so nobody may have defined "module" yet.
type module >/dev/null 2>&1 || . /etc/profile
read -ra hpcbridge_modules <<<{{ cluster.modules }}
module load "${hpcbridge_modules[@]}" || { echo "hpcbridge: module load failed" >&2; exit 1; }
{% endif %}
{% if cluster.prologue is defined %}
# Read into this shell, so that what it exports counts; the job ends if it fails.
. {{ cluster.prologue }} || { echo "hpcbridge: the site's prologue failed" >&2; exit 1; }
{% endif %}

# Slurm and PBS hide other jobs' GPUs behind CUDA_VISIBLE_DEVICES, Grid Engine lists them in
# SGE_HGR_gpu, and Torque writes lines such as n1-gpu0 to a file. Names (GPU-..., MIG-...) are none
# of EGL's numbers, so they are left out.
hpcbridge_find_gpus() {
  local granted word
  granted=${CUDA_VISIBLE_DEVICES:-${ROCR_VISIBLE_DEVICES:-${SLURM_JOB_GPUS:-$SGE_HGR_gpu}}}
  if [[ -z $granted && -r $PBS_GPUFILE ]]; then
    granted=$(grep -oP "^$(hostname -s)(\.\S*)?-gpu\K[0-9]+" "$PBS_GPUFILE")
  fi
  hpcbridge_gpus=()
  for word in ${granted//,/ }; do
    [[ $word =~ ^[0-9]+$ ]] && hpcbridge_gpus+=("$word")
  done
}
hpcbridge_find_gpus

hpcbridge_inside=()
{% if cluster.container is defined %}
hpcbridge_inside=(apptainer exec --bind "$HPCBRIDGE_DIRECTORY" --pwd "$HPCBRIDGE_DIRECTORY")
((${#hpcbridge_gpus[@]})) && hpcbridge_inside+=(--nv)
{% if cluster.container_options is defined %}
read -ra hpcbridge_words <<<{{ cluster.container_options }}
hpcbridge_inside+=("${hpcbridge_words[@]}")
{% endif %}
hpcbridge_inside+=({{ cluster.container }})
{% endif %}
