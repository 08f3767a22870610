"""The built-in training: a small data set, a network and a loop that show the whole way in seconds."""
