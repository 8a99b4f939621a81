"""Encoders, from data to the numbers of a bottleneck, and decoders, from a code to the parameters of data."""
