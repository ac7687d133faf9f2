"""The figures of a demonstration, as a table for people and as a value for machines."""

from __future__ import annotations

from dataclasses import dataclass

from fluidfs.demo.measure import Reading


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of data, read twice."""

    what: str
    cold: Reading
    warm: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured. `status` is the daemon's own view of it, as `fluidfs status --json` gives it."""

    rows: tuple[Row, ...]
    cached_bytes: int
    status: dict[str, object]

    @property
    def wrong(self) -> tuple[str, ...]:
        """Keys of the files whose content differed from the source in either pass."""
        return tuple(sorted({key for row in self.rows for key in (*row.cold.wrong, *row.warm.wrong)}))

    def facts(self) -> dict[str, object]:
        """Everything as JSON types; speeds in bytes and files per second."""
        return {
            "rows": [
                {
                    "what": row.what,
                    "files": row.cold.files,
                    "size_bytes": row.cold.size_bytes,
                    **{f"cold_{name}": value for name, value in _speeds(row.cold).items()},
                    **{f"warm_{name}": value for name, value in _speeds(row.warm).items()},
                }
                for row in self.rows
            ],
            "cached_bytes": self.cached_bytes,
            "wrong": list(self.wrong),
            "status": self.status,
        }

    def table(self) -> str:
        """A short table in plain text, with a line below it that says what it means."""
        head = ("", "files", "MB", "cold MB/s", "warm MB/s", "cold files/s", "warm files/s")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        body = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        files = sum(row.cold.files for row in self.rows)
        verdict = f"{len(self.wrong)} of {files:,} files differ" if self.wrong else f"all {files:,} files are equal"
        body.append(f"SHA-256 compared with the source, cold and warm: {verdict}.")
        body.append(f"The cache held {self.cached_bytes / 1e6:,.0f} MB; hashing is part of the times.")
        return "\n".join(body)


def _cells(row: Row) -> tuple[str, ...]:
    many = row.cold.files > 1
    return (
        row.what,
        f"{row.cold.files:,}",
        f"{row.cold.size_bytes / 1e6:,.1f}",
        f"{row.cold.bytes_per_s / 1e6:,.0f}",
        f"{row.warm.bytes_per_s / 1e6:,.0f}",
        f"{row.cold.files_per_s:,.0f}" if many else "",
        f"{row.warm.files_per_s:,.0f}" if many else "",
    )


def _speeds(reading: Reading) -> dict[str, float]:
    return {
        "seconds": round(reading.seconds, 3),
        "bytes_per_s": round(reading.bytes_per_s),
        "files_per_s": round(reading.files_per_s, 1),
    }
