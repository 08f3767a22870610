"""Results as tables: in the terminal, and in README.md and docs/cpu_kernels.md between markers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.cpu_lines import fits_of
from benchmarks.cpu_networks import COLD, PEERS, TUNED, WARM
from benchmarks.cpu_peers import BARE, COMPILED, INT8, LIF
from benchmarks.cpu_ratios import at, best, int8_peer, over, slowest
from benchmarks.cpu_results import About, Results, Row
from benchmarks.cpu_workloads import DENSITY, GOALS, NETWORKS, VARIANTS
from spikenm_compile.errors import InputError
from spikenm_compile.report.table import format_table

BEGIN, END = "<!-- cpu-table:begin -->", "<!-- cpu-table:end -->"
README, DOCS = Path("README.md"), Path("docs") / "cpu_kernels.md"

ALL = (*PEERS, *(name for v in VARIANTS for name in (str(v), str(v) + TUNED)))
"""Names in the table of networks."""
HEADLINE = (INT8[0], INT8[1], *(str(v) for v in GOALS))
"""Those that the README shows."""

Table = tuple[Sequence[str], list[Sequence[str]]]
"""Header and rows."""


def write_tables(folder: Path, root: Path) -> None:
    """Write what the folder's results say into the texts under `root`.

    Raises:
        InputError: a text has no markers, or the networks were not measured.
    """
    parts = {name: Results(folder / f"{name}.jsonl") for name in ("layers", "networks", "recorded", "lines")}
    networks = parts["networks"]
    if networks.about is None:
        raise InputError(
            f"{networks.path} is not there; tables need the networks at least, so run `python -m benchmarks.cpu "
            "networks` first"
        )
    table = markdown(network_table(networks.rows, HEADLINE))
    replace_table(root / README, f"{_origin(networks.about)}\n\n{table}")
    replace_table(root / DOCS, "\n\n".join([*_sections(parts), *_pictures(folder, (root / DOCS).parent)]))


def _sections(parts: dict[str, Results]) -> Iterator[str]:
    titles = {
        "networks": "Sums over layers in sequence: microseconds, and how many times ONNX Runtime's int8 (goal)",
        "layers": f"Layers one by one at {DENSITY:.0%} spikes: microseconds, times ONNX Runtime's int8",
        "recorded": "Spikes of trained networks (VGG-11 on digits): microseconds, times the best peer",
        "lines": "Straight lines",
    }
    for name, title in titles.items():
        results = parts[name]
        if results.about is not None and results.rows:
            slow = slow_text(results.rows) if name in ("layers", "recorded") else ""
            yield f"**{title}.** {_origin(results.about)}{slow}"
            yield markdown(TABLES[name](results.rows))


def _pictures(folder: Path, seen_from: Path) -> Iterator[str]:
    names = [path.name for path in sorted(folder.glob("*.png"))]
    if names:
        where = os.path.relpath(folder, seen_from)
        yield "Pictures: " + ", ".join(f"[{name.removesuffix('.png')}]({where}/{name})" for name in names) + "."


def _origin(about: About) -> str:
    return f"{about.machine}, {about.cpu}, {about.date}, `{about.command}`; medians, CPU time of one thread."


def slow_text(rows: Sequence[Row]) -> str:
    """Where the chosen kernels gain least."""
    slow = slowest(rows)
    if slow is None:
        return ""
    where = f"{slow.row.place}, {slow.row.what}, {slow.row.x:.1%} active"
    return f" Least gain of a chosen kernel over the best peer: {slow.ratio:.2f}× ({where}; {slow.peer})."


def network_table(rows: Sequence[Row], names: Sequence[str] = ALL) -> Table:
    """Peers and variants × networks, warm and cold."""
    places = [f"{network} {how}" for network in NETWORKS for how in (WARM, COLD)]
    table: list[Sequence[str]] = []
    for name in names:
        cells = [_network_cell(rows, place, name) for place in places]
        if any(cells):
            table.append((name, *cells, _goal(name)))
    return ("", *places, "goal"), table


def _network_cell(rows: Sequence[Row], place: str, name: str) -> str:
    here = at(rows, place)
    row = next((row for row in here if row.what == name), None)
    return "" if row is None else _cell(row, over(row, int8_peer(here)))


def _goal(name: str) -> str:
    variant = next((v for v in GOALS if name in (str(v), str(v) + TUNED)), None)
    return "" if variant is None else " / ".join(f"{goal:g}×" for goal in GOALS[variant])


def _cell(row: Row, ratio: float) -> str:
    digits = 0 if row.times.median >= 100 else 1
    return f"{row.times.median:.{digits}f} ({ratio:.1f}×)"


def layer_table(rows: Sequence[Row]) -> Table:
    """Peers and variants × layers at `DENSITY`: the chosen kernel, and the quickest where that is another."""
    layers = {place: at(rows, place, DENSITY) for place in dict.fromkeys(row.place for row in rows)}
    names = dict.fromkeys(row.what for here in layers.values() for row in here)
    peers = [name for name in names if name.partition(LIF)[0] in (*BARE, COMPILED)]
    order = [*peers, *(str(v) for v in VARIANTS if str(v) in names)]
    return ("", *layers), [(name, *(_layer_cell(here, name) for here in layers.values())) for name in order]


def _layer_cell(here: Sequence[Row], name: str) -> str:
    rows, peer = [row for row in here if row.what == name], int8_peer(here)
    chosen, quickest = next((row for row in rows if row.is_chosen), None), best(rows, [name])
    if quickest is None:
        return ""
    if chosen is None or chosen.family == quickest.family:
        return _cell(quickest, over(quickest, peer))
    return f"{_cell(chosen, over(chosen, peer))}; {quickest.family} {_cell(quickest, over(quickest, peer))}"


def recorded_table(rows: Sequence[Row]) -> Table:
    """Layers of trained networks: density, best peer, chosen kernel."""
    table: list[Sequence[str]] = []
    for place in dict.fromkeys(row.place for row in rows):
        here = at(rows, place)
        peer, chosen = best(here, BARE), next(row for row in here if row.is_chosen)
        least = "" if peer is None else f"{peer.times.median:.1f} {peer.what}"
        table.append((place, f"{chosen.x:.1%}", least, chosen.family, _cell(chosen, over(chosen, peer))))
    return ("layer", "active", "best peer", "kernel", "ours"), table


def line_table(rows: Sequence[Row]) -> Table:
    """Fits."""
    found = fits_of(rows).items()
    table: list[Sequence[str]] = [
        (axis, line, f"{fit.intercept:.1f} + {fit.slope:.4g} · x", f"{fit.r2:.4f}") for (axis, line), fit in found
    ]
    return ("x", "kernel", "microseconds", "R²"), table


TABLES = {"layers": layer_table, "networks": network_table, "recorded": recorded_table, "lines": line_table}
"""Part -> its table."""


def summary(part: str, rows: Sequence[Row]) -> str:
    """For the terminal."""
    header, table = TABLES[part](rows)
    slow = slow_text(rows) if part in ("layers", "recorded") else ""
    return f"{format_table(header, table)}\n{slow.strip()}".rstrip()


def markdown(table: Table) -> str:
    """A table of a text."""
    header, rows = table
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


def replace_table(path: Path, text: str) -> None:
    """Put `text` between the markers of a file.

    Raises:
        InputError: it has none.
    """
    old = path.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path} lacks the markers {BEGIN} and {END}; tables go between them, so put them in")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
