"""Random input for a machine, made from a seed; what a machine must not do; the smallest case."""
