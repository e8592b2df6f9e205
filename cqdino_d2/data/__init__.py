"""Data sets: loading and registration, the dataset mapper, samplers and loaders, EmojiDet."""
