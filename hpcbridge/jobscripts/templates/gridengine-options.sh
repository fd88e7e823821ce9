{% if job.walltime %}
#$ -l h_rt={{ job.walltime | hms(days=false) }}
{% endif %}
{% if cluster.queue is defined %}
#$ -q {{ cluster.queue | directive }}
{% endif %}
{% if cluster.account is defined %}
#$ -A {{ cluster.account | directive }}
{% endif %}
{% if cluster.project is defined %}
#$ -P {{ cluster.project | directive }}
{% endif %}
{% if cluster.reservation is defined %}
#$ -ar {{ cluster.reservation | directive }}
{% endif %}
{% if cluster.pe is defined %}
{% set nodes = cluster.nodes | default(1) | directive | int %}
{% set tasks = cluster.tasks | default(1) | directive | int %}
{% set cpus = cluster.cpus | default(1) | directive | int %}
#$ -pe {{ cluster.pe | directive }} {{ (nodes * tasks * cpus) | directive }}
{% endif %}
{% if cluster.memory is defined %}
#$ -l h_vmem={{ cluster.memory | directive }}
{% endif %}
{% if gpus is defined %}
#$ -l gpu={{ gpus | directive }}
{% endif %}
{% if cluster.constraint is defined %}
#$ -l {{ cluster.constraint | directive }}
{% endif %}
{% if cluster.exclusive is defined and cluster.exclusive %}
#$ -l exclusive=true
{% endif %}
