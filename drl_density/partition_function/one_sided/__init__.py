"""Estimates of log Z from weights of one direction, and their check from the other side."""
