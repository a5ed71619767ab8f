#!/usr/bin/env bash
#SBATCH --job-name=train_mofdiff
#SBATCH --nodes=2                # any sbatch option overrides these: sbatch --nodes=8 --gpus-per-node=4 slurm/train_mofdiff.sh
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
# Trains MOFDiff: frameworks into blocks, the block encoder, the library's embedding, the coarse diffusion; each stage
# goes on where it stopped. A training process for each GPU, or for each node without GPUs.
#   sbatch slurm/train_mofdiff.sh                                    embedded frameworks, for a first try
#   sbatch slurm/train_mofdiff.sh mofdiff_qmof --data DIR --out runs/qmof [any option of matgen run]
#   sbatch --no-kill slurm/train_mofdiff.sh ... --set train.min_workers=1      goes on with fewer nodes when some die
# Nothing here needs the score of the block encoder: matgen run EXPERIMENT score_blocks --out DIR gives it, any time after.
cd "${SLURM_SUBMIT_DIR:?this is a batch script: sbatch $0}" || exit 2
[ -f slurm/ray_cluster.sh ] || { echo "submit this from the root of the repository; there is no slurm/ray_cluster.sh in $PWD" >&2; exit 2; }
. slurm/ray_cluster.sh
EXPERIMENT=${1:-mofdiff_demo}; shift
NUM_TRAINERS=$((GPUS > 0 ? ALL_GPUS : NUM_NODES))
run_on_ray matgen run "$EXPERIMENT" preprocess train_blocks embed train --workers "$ALL_CPUS" \
    --set blocks.train.num_workers="$NUM_TRAINERS" --set train.num_workers="$NUM_TRAINERS" "$@"
