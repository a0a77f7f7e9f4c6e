"""C{rudp plot}: draws rate, window, round trip and losses of a session from its trace."""

from __future__ import annotations

from typing import Any

from twisted.python import usage

from twisted_rudp.service.usage import UsageOptions, printable, whole
from twisted_rudp.tracing.series import Series, TraceError, rates, read

FORMATS = ("svg", "png")


class PlotOptions(UsageOptions):
    """C{rudp plot}."""

    synopsis = "[options] TRACE"
    longdesc = (
        "Draw rate, window, round trip and losses of a session from its trace, a .sqlog file"
        " that --trace has written. Needs matplotlib: pip install 'twisted_rudp[plot]'."
    )
    examples = """
Examples:

  twist rudp echo --listen kcp:4000 --trace traces
  rudp plot traces/1234-0001-kcp-server.sqlog
  rudp plot --output picture.png traces/1234-0001-kcp-server.sqlog
"""
    optParameters = [
        ["output", "o", None, "File to write, .svg or .png. Default: the trace's name and .svg."],
        ["bins", None, 200, "Points of the rates.", whole(10, 10_000, "a number of points")],
    ]

    def parseArgs(self, *files: str) -> None:
        """
        @raise usage.UsageError: not exactly one file.
        """
        if len(files) != 1:
            raise usage.UsageError("plot: expected one TRACE")
        self["file"] = files[0]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: the output is of an unknown format.
        """
        if self["output"] is None:
            self["output"] = self["file"].removesuffix(".sqlog") + ".svg"
        if self["output"].rpartition(".")[2] not in FORMATS:
            raise usage.UsageError(f"--output {self['output']}: expected .svg or .png")


def runPlot(reactor: Any, options: PlotOptions) -> None:
    """
    Draw a trace. For C{task.react}.

    @raise usage.UsageError: matplotlib is missing, or a file cannot be read or written.
    """
    path, output = options["file"], options["output"]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise usage.UsageError(
            "plot needs the package matplotlib: pip install 'twisted_rudp[plot]'"
        ) from None
    try:
        with open(path, "rb") as file:
            series = read(file)
    except OSError as problem:
        raise usage.UsageError(f"plot: {path}: {problem.strerror}") from None
    except TraceError as problem:
        raise usage.UsageError(f"plot: {path}: {problem}") from None
    figure = Figure(figsize=(9, 8), layout="constrained")
    draw(figure, series, options["bins"])
    try:
        figure.savefig(output, dpi=120)
    except OSError as problem:
        raise usage.UsageError(f"--output {output}: {problem.strerror}") from None
    if series.broken:
        print(f"{path}: {series.broken}: drawn up to there")
    print(output)


def draw(figure: Any, series: Series, bins: int = 200) -> None:
    """
    Draw a trace: rates above, windows in the middle, round trips below.

    @param figure: of matplotlib.
    """
    upper, middle, lower = figure.subplots(3, 1, sharex=True)
    title = series.title
    if series.reason:
        title += f", {series.reason}"
    # Texts of a peer do not format: matplotlib would take a dollar for mathematics.
    upper.set_title(printable(title[:120]).replace("$", r"\$"))
    for name, packets in (("sent", series.sent), ("received", series.received)):
        _steps(upper, rates(packets, series.end, bins), name, 1)
    upper.set_ylabel("Mbit/s")
    for name, label in (("congestion_window", "window"), ("bytes_in_flight", "in flight")):
        _steps(middle, series.metrics[name], label, 1e-3, series.end)
    middle.set_ylabel("kB")
    top = max((value for _, value in series.metrics["bytes_in_flight"]), default=1.0) / 1000
    if series.lost:
        label = f"{len(series.lost)} lost"
        middle.plot(series.lost, [top] * len(series.lost), "|", color="tab:red", label=label)
    windows = [value for _, value in series.metrics["congestion_window"]]
    if windows and max(windows) > 20e3 * top:
        # A window that was never needed would leave a flat line below.
        middle.set_yscale("log")
    _steps(lower, series.metrics["smoothed_rtt"], "round trip", 1, series.end)
    _steps(lower, series.metrics["rtt_variance"], "variation", 1, series.end)
    lower.set_ylabel("ms")
    lower.set_xlabel("seconds")
    for axes in (upper, middle, lower):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right")
        axes.grid(alpha=0.3)
        if axes.get_yscale() == "linear":
            axes.set_ylim(bottom=0)


def _steps(
    axes: Any, points: list[tuple[float, float]], label: str, unit: float, end: float | None = None
) -> None:
    """Draw values that each hold until the next, the last one up to the end."""
    if not points:
        return
    times = [time for time, _ in points]
    values = [value * unit for _, value in points]
    if end is not None:
        times.append(end)
        values.append(values[-1])
    axes.plot(times, values, drawstyle="steps-post", label=label, linewidth=1)
