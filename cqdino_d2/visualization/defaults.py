"""Numbers that commands name in their help: importing them takes no time."""

ON_SHEET = 12  # images
SAME_OBJECT_IOU = 0.5  # what demos take
ONE_OBJECT_IOU = 0.7  # of boxes of any names that are taken for one object: the best is followed
