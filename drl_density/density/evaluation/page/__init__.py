"""The page of a likelihood report, part by part."""
