"""Images with a label and no box: their sets, and their batches among those with boxes."""
