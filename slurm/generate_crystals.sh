#!/usr/bin/env bash
#SBATCH --job-name=generate_crystals
#SBATCH --nodes=2                # any sbatch option overrides these: sbatch --nodes=8 --gpus-per-node=4 slurm/generate_crystals.sh
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180       # three minutes before the limit: checkpoint, and queue again
#SBATCH --output=%x-%j.out
##SBATCH --account=YOURS          # what your site wants: remove one #, or put it on the command line
##SBATCH --partition=gpu
##SBATCH --gpus-per-node=4
#SBATCH --no-kill                 # a node that dies costs what it held; the others go on
#
# Draws, builds, relaxes and scores crystals with a trained run, on all CPUs (and GPUs, where a stage uses them).
#   sbatch --nodes=8 --gpus-per-node=4 slurm/generate_crystals.sh symmcd_mp20 --out runs/mp20 --count 1000000
# For many nodes a job array over shards is sturdier: python -m slurm.submit campaign --help
cd "${SLURM_SUBMIT_DIR:?this is a batch script: sbatch $0}" || exit 2
[ -f slurm/ray_cluster.sh ] || { echo "submit this from the root of the repository; there is no slurm/ray_cluster.sh in $PWD" >&2; exit 2; }
. slurm/ray_cluster.sh
EXPERIMENT=${1:-symmcd_demo}; shift
run_on_ray matgen run "$EXPERIMENT" sample decode relax evaluate report --workers "$ALL_CPUS" "$@"
