"""results.md: a section for each kind of measurement, replaced when that is run again."""

import datetime
import re
import statistics

from .machine import description

TITLE = "# meridian beside its peers\n\nWritten by `benches/peers/run`; its README tells how far to trust each figure.\n"


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def table(columns, rows):
    """Markdown; the first two columns are text, the others figures."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "".join("---|" if index < 2 else "--:|" for index in range(len(columns)))]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value, digits=0, unit=""):
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def versions(servers):
    return ", ".join(f"{server.name} {server.version}" for server in servers)


def present(path, title, how, servers, body):
    """Prints a section and puts it into the file."""
    section = (f"## {title}\n\n{datetime.date.today()}. {description()}. {how}\n\nVersions: {versions(servers)}.\n\n{body}\n")
    print("\n" + section, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.read_text() if path.exists() else TITLE
    sections = re.split(r"(?m)^(?=## )", old)
    kept = [text.rstrip() + "\n" for text in sections if not text.startswith(f"## {title}\n")]
    path.write_text("\n".join([*kept, section]))
