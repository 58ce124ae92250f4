"""Training: devices, step, loop, optimisers, moving averages, checkpoints and records. TensorFlow begins here."""
