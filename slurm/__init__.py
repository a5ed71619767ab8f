"""How jobs reach a Slurm cluster. Nothing here imports anything of ours: a login node may have no torch."""
