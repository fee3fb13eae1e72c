"""The driver nbd: an image that a server has."""
