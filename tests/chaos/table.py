"""The table of a run."""
import collections

_COLUMNS = ("class of faults", "faults", "messages", "lost", "duplicated", "again", "rejected", "lost by mosquitto",
            "dropped", "failed")


def _sums(lives):
    accounts = [life.account for life in lives]
    return [sum(life.done + life.overlapped for life in lives),
            *(sum(getattr(account, name) for account in accounts)
              for name in ("messages", "lost", "duplicated", "again", "rejected", "broker_lost", "dropped")),
            sum(bool(life.failure) for life in lives)]


def table(lives, seed, seconds):
    """As text that is Markdown too."""
    classes = collections.defaultdict(list)
    for life in lives:
        classes[life.name].append(life)
    rows = [[name, *_sums(found)] for name, found in sorted(classes.items())] + [["all", *_sums(lives)]]
    rows = [[row[0], *(f"{value:,}" for value in row[1:])] for row in rows]
    widths = [max(len(row[place]) for row in [_COLUMNS, *rows]) for place in range(len(_COLUMNS))]

    def line(cells, fill=" "):
        return "| " + " | ".join(cell.ljust(width, fill) if not place else cell.rjust(width, fill)
                                 for place, (cell, width) in enumerate(zip(cells, widths))) + " |"

    rule = "| " + " | ".join("-" * width if not place else "-" * (width - 1) + ":"
                             for place, width in enumerate(widths)) + " |"
    peak = max((life.peak for life in lives), default=0)
    overlapped = sum(life.overlapped for life in lives)
    return "\n".join([line(_COLUMNS), rule, *map(line, rows), "",
                      f"seed {seed}, {len(lives)} sites, {overlapped} faults overlapped another, {seconds:.0f} s;"
                      f" peak memory of a daemon {peak / 2**20:.1f} MiB"])
