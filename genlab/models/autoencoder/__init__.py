"""Autoencoders: an encoder, a bottleneck, a decoder, and the distribution of data that it ends in."""
