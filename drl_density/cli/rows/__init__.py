"""Commands on the rows of tables: ``sample``, ``score``, ``impute`` and ``predict``."""
