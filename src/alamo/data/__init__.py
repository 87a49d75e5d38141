"""DDict and Queue: data that tasks and clients share, and the stores under them."""
