"""Commands on the rows of tables: ``sample``, ``score``, ``outliers``, ``impute`` and ``predict``."""
