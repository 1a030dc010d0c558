"""Test log-likelihoods on public tables beside other density estimators, all on the same fitted transform and time.

    make bench-tables DATA=folder
    python -m tests.benchmarks.tables --data folder --sets wine pima --rivals drl_density gmm --minutes 1 --out runs/tables
    python -m tests.benchmarks.tables --out runs/tables --report

The folder holds ``rbp/``, ``adbench/``, ``uci_rnade/`` and ``miniboone_part/``; without one, tables of scikit-learn are
used. Every set has a JSON file in ``--out``. A run skips what is there already, so it can be interrupted, resumed, and
divided over processes by sets and by rivals. The Markdown table is written from these files.

- ``sets``: the tables, their splits, and the units of their log-likelihoods.
- ``contract``: what a rival gets and what it returns.
- ``ours``, ``classical``, ``flows``, ``optional``: the rivals.
- ``job``: one rival on one split, in a process of its own.
- ``run``: the command line.
- ``table``: the Markdown table.
"""
