"""What the commands on rows share: where rows go, how an interrupted command continues, and the seed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drl_density.cli.command import OnDevice, printed_seed, refuse_two_results
from drl_density.cli.reading import ReadsTable
from drl_density.cli.rows.part_folder import PartFolder, part_path, read_job
from drl_density.cli.rows.row_groups import Finished, Group, TableGroup, run_row_groups
from drl_density.cli.rows.source import Columns, TableSource
from drl_density.datasets.tables.writing import check_target, is_standard, is_stream
from drl_density.density import FittedModel
from drl_density.errors import DataError, RunFolderError
from drl_density.run_folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OnTable", "WritesRows", "run_identity"]


@dataclasses.dataclass(kw_only=True)
class WritesRows(OnDevice):
    """A command that writes rows group by group."""

    out: Path | None = None
    """File to write: .csv, .tsv, .csv.gz, .tsv.gz or .parquet. By default, and for -, CSV on standard output."""
    resume: bool = False
    """Continue an interrupted command, whose finished rows are in the folder OUT.parts."""

    def __post_init__(self) -> None:
        self._parts: PartFolder | None = None

    def check(self) -> None:
        """Refuse impossible options, and ``--json`` without a file for the rows."""
        super().check()
        refuse_two_results(json=self.json, out=self.out)

    def advice(self) -> str:
        """How to continue, where row groups are finished."""
        return "" if self._parts is None else self._parts.advice()

    @property
    def target(self) -> Path | None:
        """The file to write; None for standard output, and for pipes and devices, which are written as rows are made."""
        return None if is_stream(self.out) else self.out

    def chosen_seed(self, seed: int | None) -> int:
        """The seed given, that of the command to continue, or one that is drawn and printed."""
        if seed is None and self.resume and self.target is not None:
            found = (read_job(part_path(self.target)) or {}).get("--seed")
            if isinstance(found, int):
                return found
        return printed_seed(seed)

    def written(
        self,
        groups: Iterable[Group],
        work: Callable[[Group], Finished],
        *,
        job: Mapping[str, Any],
        further: Mapping[str, Path] | None = None,
        schema: pa.Schema | None = None,
        total: int | None = None,
        can_resume: bool = True,
    ) -> list[Mapping[str, Any]]:
        """Work on every group and write the rows; returns the figures of all groups.

        Args:
            groups: row groups in order.
            work: makes the tables of a group: "rows", and one for each name in ``further``.
            job: what the rows depend on.
            further: other files to write.
            schema: Arrow schema of the table that "rows" come from.
            total: number of rows, where it is known.
            can_resume: whether the groups can be read again.
        """
        further = dict(further or {})
        parts = None
        if self.target is not None:
            job = {"command": type(self).__name__.lower(), **job}
            self._parts = parts = PartFolder({"rows": self.target, **further}, job, can_resume=can_resume)
        return run_row_groups(
            groups,
            work,
            outputs={"rows": self.out, **further},
            parts=parts,
            schemas={"rows": schema},
            total=total,
            resume=self.resume,
        )


@dataclasses.dataclass(kw_only=True)
class OnTable(WritesRows, ReadsTable):
    """A command that writes what it finds about the rows of a table next to them."""

    columns: Columns = "all"
    """all writes the columns of the table and then ours; ours writes ours alone. A name that is taken becomes NAME_2."""

    def open_source(
        self,
        source: str,
        density: FittedModel,
        *,
        further: Iterable[Path] = (),
        also: Iterable[str] = (),
        **options: Any,
    ) -> TableSource:
        """The table to read, once it is clear that the outputs can be written.

        Args:
            source: table with the columns of the fit.
            density: the fit.
            further: other files to write.
            also: other files to read.
            options: see :class:`TableSource`.

        Raises:
            DataError: an output that cannot be written, that is read here, or that is the same file as another.
        """
        written: list[Path] = [] if self.target is None else [self.target]
        check_target(self.out, sources=[source, *also])
        for target in further:
            check_target(target, sources=[source, *also])
            if is_standard(target):
                raise DataError(f"{target} is standard output, which is for the rows alone; write to a file, ending in .csv")
            if any(target.resolve() == other.resolve() for other in written):
                raise DataError(f"{target} is the file of the rows (--out) as well; write to another file")
            written.append(target)
        return TableSource(source, density.columns, reading=self.reading_for(density), **options)

    def written_for(
        self,
        table: TableSource,
        size: int,
        work: Callable[[TableGroup], Finished],
        *,
        run: Path,
        job: Mapping[str, Any] | None = None,
        further: Mapping[str, Path] | None = None,
        schema: pa.Schema | None = None,
    ) -> list[Mapping[str, Any]]:
        """Work on every row group of a table and write the rows; returns the figures of all groups.

        Args:
            table: table to read.
            size: number of rows in a group.
            work: see :meth:`written`.
            run: folder of the run that the rows depend on.
            job: what else the rows depend on, except the table and the columns written.
            further: other files to write.
            schema: Arrow schema of the rows to write; that of the table when not given.
        """
        return self.written(
            table.groups(size),
            work,
            job={**run_identity(run), **table.identity(), **(job or {}), "--columns": self.columns},
            further=further,
            schema=table.schema if schema is None else schema,
            total=table.num_rows,
            can_resume=not table.is_stream,
        )


def run_identity(path: Path) -> dict[str, Any]:
    """What changes where a run does."""
    folder = RunFolder.open(path)
    digest = hashlib.sha256()
    for file in (folder.settings, folder.weights):
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise RunFolderError(f"{file} cannot be read ({error}); was the run replaced in the meantime?") from error
    return {"run": str(Path(path).resolve()), "content of the run": digest.hexdigest()[:16]}
