"""Training with prompts: what images are asked for, and their records."""
