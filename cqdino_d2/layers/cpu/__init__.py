"""What makes CPUs faster and changes nothing else."""
