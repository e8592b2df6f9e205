"""Images with a label and no box, as columns: see `labelled_images`."""
