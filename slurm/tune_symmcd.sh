#!/usr/bin/env bash
#SBATCH --job-name=tune_symmcd
#SBATCH --nodes=2                # any sbatch option overrides these: sbatch --nodes=8 --gpus-per-node=4 slurm/tune_symmcd.sh
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
#
# Searches noise schedules, embedding sizes and rates of SymmCD; trials share the nodes. Goes on after anything.
#   sbatch slurm/tune_symmcd.sh                                      embedded crystals, for a first try
#   sbatch slurm/tune_symmcd.sh --experiment symmcd_mp20 --trials 200 --data DIR [any option of sweeps/tune_symmcd.py]
cd "${SLURM_SUBMIT_DIR:?this is a batch script: sbatch $0}" || exit 2
[ -f slurm/ray_cluster.sh ] || { echo "submit this from the root of the repository; there is no slurm/ray_cluster.sh in $PWD" >&2; exit 2; }
. slurm/ray_cluster.sh
OUT=sweep-$SLURM_JOB_ID # a requeued job has the same number
[ -d "$OUT" ] && set -- --resume "$OUT" || set -- --out "$OUT" "$@"
run_on_ray python sweeps/tune_symmcd.py "$@"
