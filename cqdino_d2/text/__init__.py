"""From names to text features."""
