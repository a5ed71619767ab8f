"""What we run: each experiment is a function that returns an Experiment; the matgen command runs its stages."""
