"""Text tables: csv, tsv and their relatives, recognised from their first rows and parsed by pandas."""
