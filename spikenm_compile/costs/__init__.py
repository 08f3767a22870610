"""What a layer costs on a CPU: predicted from its shape and the density of its input, or looked up in a log."""
