"""Other projects' calls, answered by this one's models."""
