"""whycam shows why an image model decided what it decided."""
