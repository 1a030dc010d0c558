"""The sections of a likelihood report: each computes its part, and writes it as groups and attributes of one tree."""
