{% if job.walltime %}
#SBATCH --time={{ job.walltime | hms }}
{% endif %}
{% if cluster.partition is defined %}
#SBATCH --partition={{ cluster.partition | directive }}
{% endif %}
{% if cluster.account is defined %}
#SBATCH --account={{ cluster.account | directive }}
{% endif %}
{% if cluster.qos is defined %}
#SBATCH --qos={{ cluster.qos | directive }}
{% endif %}
{% if cluster.reservation is defined %}
#SBATCH --reservation={{ cluster.reservation | directive }}
{% endif %}
{% if cluster.constraint is defined %}
#SBATCH --constraint={{ cluster.constraint | directive }}
{% endif %}
{% if cluster.nodes is defined %}
#SBATCH --nodes={{ cluster.nodes | directive }}
{% endif %}
{% if cluster.tasks is defined %}
#SBATCH --ntasks-per-node={{ cluster.tasks | directive }}
{% endif %}
{% if cluster.cpus is defined %}
#SBATCH --cpus-per-task={{ cluster.cpus | directive }}
{% endif %}
{% if cluster.memory is defined %}
#SBATCH --mem={{ cluster.memory | directive }}
{% endif %}
{% if gpus is defined %}
#SBATCH --gpus-per-node={{ gpus | directive }}
{% endif %}
{% if cluster.gres is defined %}
#SBATCH --gres={{ cluster.gres | directive }}
{% endif %}
{% if cluster.exclusive is defined and cluster.exclusive %}
#SBATCH --exclusive
{% endif %}
