"""Spiking networks of the literature, ready to train: `table` names them, one file per family makes them."""
