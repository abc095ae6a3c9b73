"""What bench/servers shows of a run: its tables, its page, its picture. All of it is made from the
dictionary that --json keeps."""

import html
import statistics

import common

TITLE = "Resident memory of servers over load and quiet"
AFTER_SECONDS = (1, 2, 5)  # when, after the load, to read off what is left
BEFORE_SECONDS = 1  # of the base, shown in the charts


class Row:
    """One server under one allocator: medians over the rounds."""

    def __init__(self, row):
        self.name = row["name"]
        self.failure = row["failure"]
        if self.failure:
            return
        runs = row["runs"]
        self.curve = [(t, mib) for t, mib, _ in runs[0]["samples"] if t >= -BEFORE_SECONDS]
        self.fall = runs[0]["burst_s"]
        self.burst_s = statistics.median(run["burst_s"] for run in runs)
        self.cpu_s = statistics.median(run["cpu_s"] for run in runs)
        self.peak = statistics.median(max(s[1] for s in run["samples"]) for run in runs)
        self.base = statistics.median(base_of(run) for run in runs)
        self.after = {d: statistics.median(after(run, d)[1] for run in runs) for d in AFTER_SECONDS}
        self.lazy = statistics.median(after(run, AFTER_SECONDS[0])[2] for run in runs)


def base_of(run):
    """The last sample before the load."""
    return max((s for s in run["samples"] if s[0] <= 0), default=run["samples"][0])[1]


def after(run, seconds):
    """The first sample so long after the load, or the last one."""
    for sample in run["samples"]:
        if sample[0] >= run["burst_s"] + seconds:
            return sample
    return run["samples"][-1]


def rows_of(load):
    return [Row(row) for row in load["rows"]]


def names_of(result):
    """All allocators of a run in the order of the tables."""
    names = []
    for load in result["loads"]:
        for at, row in enumerate(load["rows"]):
            if row["name"] not in names:
                names.insert(at, row["name"])
    return names


def rounds_words(result):
    words = "one round" if result["rounds"] == 1 else f"median of {result['rounds']} rounds"
    return words + (", an eighth of the load" if result["quick"] else "")


# ---- the table ----


def print_head(result):
    print(f"{result['machine']}\nresident memory in MiB, {rounds_words(result)}")
    for words in result["left_out"]:
        if words:
            print(words)
    print(flush=True)


def print_load(load):
    print(f"{load['name']}: {load['what']}")
    heads = ["time s", "base", "peak"] + [f"+{d} s" for d in AFTER_SECONDS] + ["lazy", "CPU s"]
    print(f"{'':<17}" + "".join(f"{head:>7}" for head in heads))
    for row in rows_of(load):
        if row.failure:
            print(f"  {row.name:<15} failed: {row.failure}"[:80])
        else:
            print(f"  {row.name:<15}" + "".join(f"{cell:>7}" for cell in cells_of(row)))
    print(flush=True)


def cells_of(row):
    values = [row.base, row.peak] + [row.after[d] for d in AFTER_SECONDS] + [row.lazy]
    return [f"{row.burst_s:.2f}"] + [f"{value:.0f}" for value in values] + [f"{row.cpu_s:.2f}"]


# ---- Markdown ----


def markdown(result):
    names = names_of(result)
    later = " / ".join(str(seconds) for seconds in AFTER_SECONDS)
    memory = markdown_table(result, names, f"MiB: peak → {later} s later", memory_cell)
    times = markdown_table(result, names, "s: time (CPU)", time_cell)
    loads = "\n".join(f"- {load['name']}: {load['what']}." for load in result["loads"])
    return f"{memory}\n\n{times}\n\n{loads}\n\n{result['machine']}; {rounds_words(result)}."


def memory_cell(row):
    return f"{row.peak:.0f} → " + " / ".join(f"{row.after[d]:.0f}" for d in AFTER_SECONDS)


def time_cell(row):
    return f"{row.burst_s:.1f} ({row.cpu_s:.1f})"


def markdown_table(result, names, corner, cell):
    bold = [f"**{name}**" if name == common.OURS else name for name in names]
    lines = [f"| {corner} | " + " | ".join(bold) + " |", "|---" + "|--:" * len(names) + "|"]
    for load in result["loads"]:
        by_name = {row.name: row for row in rows_of(load)}
        cells = []
        for name in names:
            row = by_name.get(name)
            text = "" if row is None else "failed" if row.failure else cell(row)
            cells.append(f"**{text}**" if name == common.OURS and text else text)
        lines.append(f"| {load['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# ---- charts ----


def tick_step(span, most):
    """The smallest of 1, 2, 5, 10, 20 … of which at most so many fit into a span."""
    step = 1
    while span / step > most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return step


def simplified(points, tolerance):
    """Fewer points, none further than so many pixels from the line (Douglas and Peucker)."""
    kept = {0, len(points) - 1}
    spans = [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        (x0, y0), (x1, y1) = points[first], points[last]
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1
        far, at = 0, None
        for i in range(first + 1, last):
            x, y = points[i]
            distance = abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length
            if distance > far:
                far, at = distance, i
        if far > tolerance:
            kept.add(at)
            spans += [(first, at), (at, last)]
    return [points[i] for i in sorted(kept)]


class Chart:
    """A line chart in a box: seconds to the right, MiB upwards."""

    LEFT, BOTTOM = 44, 22  # room for the numbers

    def __init__(self, box, rows):
        left, top, width, height = box
        self.left, self.top = left + self.LEFT, top
        self.right, self.bottom = left + width, top + height - self.BOTTOM
        self.most_seconds = max(row.curve[-1][0] for row in rows)
        self.most_mib = 1.05 * max(mib for row in rows for _, mib in row.curve)
        self.parts = []

    def x(self, seconds):
        share = (seconds + BEFORE_SECONDS) / (self.most_seconds + BEFORE_SECONDS)
        return self.left + share * (self.right - self.left)

    def y(self, mib):
        return self.bottom - mib / self.most_mib * (self.bottom - self.top)

    def axes(self, columns, lines):
        step = tick_step(self.most_mib, lines)
        for i in range(int(self.most_mib / step) + 1):
            y = self.y(i * step)
            mark = ' class="zero"' if i == 0 else ""
            self.parts.append(f'<path{mark} d="M{self.left} {y:.1f}H{self.right}"/>')
            self.text(self.left - 6, y + 4, f"{i * step}", "end")
        step = tick_step(self.most_seconds, columns)
        for i in range(int(self.most_seconds / step) + 1):
            x = self.x(i * step)
            self.parts.append(f'<path class="zero" d="M{x:.1f} {self.bottom}v4"/>')
            self.text(x, self.bottom + 17, f"{i * step}", "middle")

    def text(self, x, y, words, anchor, kind=""):
        mark = f' class="{kind}"' if kind else ""
        self.parts.append(
            f'<text{mark} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{html.escape(words)}</text>"
        )

    def curve(self, row, style, tolerance):
        points = [(self.x(t), self.y(mib)) for t, mib in row.curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in simplified(points, tolerance))
        tip = f"<title>{html.escape(row.name)}</title>"
        self.parts.append(f'<polyline {style} points="{path}">{tip}</polyline>')
        fall = self.y(value_at(row.curve, row.fall))
        self.parts.append(f'<circle {style} cx="{self.x(row.fall):.1f}" cy="{fall:.1f}" r="2.2"/>')

    def tips(self, row):
        """Invisible spots, for the tooltips; four a second are enough."""
        for t, mib in row.curve[::5]:
            tip = html.escape(f"{row.name}: {mib:.0f} MiB at {t:.1f} s")
            self.parts.append(
                f'<circle cx="{self.x(t):.1f}" cy="{self.y(mib):.1f}" r="6" '
                f'fill="transparent"><title>{tip}</title></circle>'
            )


def value_at(curve, seconds):
    return next((mib for t, mib in curve if t >= seconds), curve[-1][1])


def ours_last(rows):
    """So that it lies on top."""
    return sorted((row for row in rows if not row.failure), key=lambda row: row.name == common.OURS)


# ---- the picture ----

# Of middle lightness, so that they can be read on white and on black; the same hue for the same
# library, dashed where it has been tuned.
STYLES = {
    common.OURS: ("#e5484d", ""),
    "glibc": ("#8a8a8a", ""),
    "glibc, 2 arenas": ("#8a8a8a", "5 3"),
    "jemalloc": ("#3b8fd0", ""),
    "jemalloc tuned": ("#3b8fd0", "5 3"),
    "tcmalloc": ("#3f9e62", ""),
    "mimalloc": ("#c98a1b", ""),
}
OTHER_STYLES = [("#9a6fc4", ""), ("#1a9c9c", ""), ("#b06a4c", "")]

PANEL_WIDTH, PANEL_HEIGHT, GAP = 276, 168, 22
COLUMNS = 3
HEAD, LEGEND, FOOT = 22, 38, 24
MOST_BYTES = 60 * 1024

PICTURE_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#808080}"
    ".name{font-weight:600;font-size:13px}"
    "path{stroke:#808080;stroke-opacity:.22;fill:none}"
    ".zero{stroke-opacity:.9}"
    "polyline{fill:none;stroke-linejoin:round}"
)


def styles_of(names):
    others = iter(OTHER_STYLES * len(names))
    return {name: STYLES.get(name) or next(others) for name in names}


def class_of(name):
    return "c-" + "".join(c if c.isalnum() else "-" for c in name)


def rules_of(name, styles):
    """The style sheet's lines for one allocator's curves and dots."""
    colour, dashes = styles[name]
    width = 2.6 if name == common.OURS else 1.3
    dashed = f";stroke-dasharray:{dashes}" if dashes else ""
    mark = class_of(name)
    return (
        f".{mark}{{stroke:{colour};stroke-width:{width}{dashed}}}"
        f"circle.{mark}{{fill:{colour};stroke:none}}"
    )


def picture(result):
    """One SVG: a panel for each server, a curve for each allocator, ours on top of them."""
    tolerance = 0.25
    while True:
        drawn = picture_drawn(result, tolerance)
        if len(drawn) < MOST_BYTES or tolerance > 8:
            return drawn
        tolerance *= 1.5


def picture_drawn(result, tolerance):
    names = names_of(result)
    styles = styles_of(names)
    loads = [(load, ours_last(rows_of(load))) for load in result["loads"]]
    loads = [(load, rows) for load, rows in loads if rows]
    parts = []
    for at, (load, rows) in enumerate(loads):
        x = at % COLUMNS * (PANEL_WIDTH + GAP)
        y = LEGEND + at // COLUMNS * (PANEL_HEIGHT + HEAD + GAP)
        chart = Chart((x, y + HEAD, PANEL_WIDTH, PANEL_HEIGHT), rows)
        chart.text(chart.left, y + 12, load["name"], "start", "name")
        chart.axes(8, 5)
        for row in rows:
            chart.curve(row, f'class="{class_of(row.name)}"', tolerance)
        parts += chart.parts
    lines = -(-len(loads) // COLUMNS)
    width = min(len(loads), COLUMNS) * (PANEL_WIDTH + GAP)
    width = max(width, legend_width(names)) + 4
    height = LEGEND + lines * (PANEL_HEIGHT + HEAD + GAP) + FOOT
    parts += picture_legend(names)
    parts.append(
        f'<text x="{Chart.LEFT}" y="{height - 14}">resident memory in MiB over seconds since the '
        "load began; a dot where all of it has been dropped</text>"
    )
    rules = PICTURE_STYLE + "".join(rules_of(name, styles) for name in names)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{html.escape(TITLE)}">'
        f"<style>{rules}</style>" + "\n".join(parts) + "</svg>\n"
    )


def legend_step(name):
    return 40 + 6.6 * len(name)


def legend_width(names):
    return int(Chart.LEFT + sum(legend_step(name) for name in names))


def picture_legend(names):
    parts, x = [], Chart.LEFT
    for name in sorted(names, key=lambda name: name != common.OURS):  # ours first
        line = f"{x:.0f},13 {x + 22:.0f},13"
        parts.append(f'<polyline class="{class_of(name)}" points="{line}"/>')
        kind = ' class="name" style="font-size:11px"' if name == common.OURS else ""
        parts.append(f'<text{kind} x="{x + 28:.0f}" y="17">{html.escape(name)}</text>')
        x += legend_step(name)
    return parts


# ---- the page ----

PAGE_WIDTH, PAGE_HEIGHT = 860, 300
PAGE_STYLE = (
    "<style>.chart path{stroke:#e3e3e3;fill:none}.chart .zero{stroke:#333}"
    ".chart polyline{fill:none;stroke-linejoin:round}</style>"
)


def page_chart(load, rows, colours):
    rows = ours_last(rows)
    if not rows:
        return ""
    chart = Chart((14, 12, PAGE_WIDTH - 26, PAGE_HEIGHT - 34), rows)
    chart.axes(16, 8)
    middle = (chart.left + chart.right) / 2
    words = "seconds since the load began; a dot where it ended"
    chart.text(middle, PAGE_HEIGHT - 6, words, "middle")
    across = (chart.top + chart.bottom) / 2
    chart.parts.append(
        f'<text x="14" y="{across}" text-anchor="middle" transform="rotate(-90 14 {across})">'
        "resident memory, MiB</text>"
    )
    for row in rows:
        colour, width = colours[row.name], 3 if row.name == common.OURS else 1.6
        chart.curve(row, f'stroke="{colour}" fill="{colour}" stroke-width="{width}"', 0.1)
    for row in rows:
        chart.tips(row)
    return (
        f'<svg class="chart" viewBox="0 0 {PAGE_WIDTH} {PAGE_HEIGHT}" width="{PAGE_WIDTH}" '
        f'role="img" aria-label="{html.escape(load["name"])}">{"".join(chart.parts)}</svg>'
    )


def page_legend(rows, colours):
    return (
        "<p>"
        + " &nbsp; ".join(
            f'<svg width="22" height="10"><path d="M0 5H22" stroke="{colours[row.name]}" '
            f'stroke-width="{4 if row.name == common.OURS else 2.5}"/></svg> '
            + html.escape(row.name)
            for row in rows
        )
        + "</p>"
    )


def page_table(rows):
    lines = [
        "<tr><th>allocator<th>time s<th>base MiB<th>peak MiB<th>+1 s MiB<th>+2 s MiB<th>+5 s MiB"
        "<th>lazy at +1 s, MiB<th>CPU s</tr>"
    ]
    for row in rows:
        mark = ' class="ours"' if row.name == common.OURS else ""
        name = html.escape(row.name)
        if row.failure:
            failure = html.escape(row.failure)
            lines.append(f'<tr{mark}><td>{name}<td colspan="8">failed: {failure}</tr>')
        else:
            lines.append(f"<tr{mark}><td>{name}<td>{'<td>'.join(cells_of(row))}</tr>")
    return f"<table>{''.join(lines)}</table>"


def page_body(result):
    colours = common.colour_of(names_of(result))
    left_out = " ".join(words for words in result["left_out"] if words)
    parts = [
        PAGE_STYLE,
        f"<h1>{TITLE}</h1>",
        f'<p class="note">{html.escape(result["machine"])}. Rss (for servers of several processes '
        "the sum of Pss) and LazyFree from /proc/PID/smaps_rollup, read from outside; figures: "
        f"{rounds_words(result)}; curves: the first round. Time: of the load, until all of it is "
        "dropped. Base: before it. +1 s: one second after it. Lazy: the part of that which the "
        "kernel may take when it wants it. CPU: of the server without its clients, from its start "
        f"to the end of the quiet. {html.escape(left_out)}</p>",
        "<ul>"
        + "".join(
            f"<li>{html.escape(name)}: {html.escape(words)}</li>"
            for name, words in result["allocators"].items()
        )
        + "</ul>",
    ]
    for load in result["loads"]:
        rows = rows_of(load)
        parts += [
            f"<h2>{html.escape(load['name'])}: {html.escape(load['what'])}</h2>",
            page_legend(rows, colours),
            page_chart(load, rows, colours),
            page_table(rows),
        ]
    return "\n".join(parts)
