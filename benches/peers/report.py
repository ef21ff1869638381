"""Usage: report.py RESULTS.json. Medians over the repeats and ratios, as Markdown."""

import json
import statistics
import sys

# Column, level of the results, how to read it, whether more is better.
COLUMNS = [
    ("1 client, tok/s", "c1", lambda n: n["output_tokens_per_s"], True),
    ("8", "c8", lambda n: n["output_tokens_per_s"], True),
    ("32", "c32", lambda n: n["output_tokens_per_s"], True),
    ("TTFT p50 of 4 x 1024, s", "prefill", lambda n: n["ttft_ms"]["p50"] / 1000, False),
    ("TTFT p99 at 32, s", "c32", lambda n: n["ttft_ms"]["p99"] / 1000, False),
    ("ITL p99 at 32, ms", "c32", lambda n: n["itl_ms"]["p99"], False),
    ("memory at start, MiB", None, lambda r: r.get("start_mib"), False),
    ("under load", None, lambda r: r.get("load_mib"), False),
    ("start-up, s", None, lambda r: r.get("startup_s"), False),
]
OURS = "attune"


def markdown(results):
    about, records = results["about"], results["records"]
    lines = [
        f"{about['date']}, {about['cpu']}, {about['threads']} threads, commit {about['commit']}, "
        f"{about['repeats']} repeats" + (", **quick: only whether it works**" if about["quick"] else "")
        + (f", attune {about['attune_flags']}" if about["attune_flags"] else ""),
        "",
    ]
    table = [record for record in records if record["part"] == "table"]
    for model in unique(record["model"] for record in table):
        lines += side_by_side(model, [record for record in table if record["model"] == model])
    lines += alone([record for record in records if record["part"] == "alone"])
    lines += problems(records)
    return "\n".join(lines) + "\n"


def side_by_side(model, records):
    """Medians of each engine, ours as a multiple of each peer's, and of the best peer's."""
    engines = unique(record["engine"] for record in records)
    of = {engine: [record for record in records if record["engine"] == engine] for engine in engines}
    asked = [column for column in COLUMNS if any(values(column, of[engine]) for engine in engines)]
    medians = {engine: [median(values(column, of[engine])) for column in asked] for engine in engines}
    peers = [engine for engine in engines if not engine.startswith(OURS)]

    lines = [f"**{model}**, medians (and the range)", "", row([""] + [column[0] for column in asked]), rule(asked)]
    for engine in engines:
        lines.append(row([engine] + [spread(values(column, of[engine])) for column in asked]))
    lines.append("")
    for ours in [engine for engine in engines if engine.startswith(OURS)]:
        if not peers:
            continue
        lines += [row([f"{ours}, times better than"] + [column[0] for column in asked]), rule(asked)]
        for peer in peers:
            lines.append(row([peer] + [better(column, a, b) for column, a, b in
                                       zip(asked, medians[ours], medians[peer])]))
        best = [pick(column, [medians[peer][index] for peer in peers]) for index, column in enumerate(asked)]
        lines += [row(["the best of them"] + [better(column, a, b) for column, a, b in zip(asked, medians[ours], best)]), ""]
    return lines


def alone(records):
    """What 10,000 users, and being known at all, cost attune."""
    if not records:
        return []
    pools = unique(pool for record in records for pool in record["levels"])
    speed, first = {}, {}
    for record in records:
        for pool, numbers in record["levels"].items():
            key = record["cache"], pool
            speed.setdefault(key, {})[record["repeat"]] = numbers["output_tokens_per_s"]
            first.setdefault(key, {})[record["repeat"]] = numbers["ttft_ms"]["p50"]
    lines = ["**attune alone**, 32 clients, tok/s, medians (and the range)", "",
             row(["", "no prefix cache", "prefix cache", "the cache gives", "TTFT p50, no cache, ms", "TTFT p50, cache, ms"]),
             rule(range(5))]
    for pool in sorted(pools):
        off, on = speed.get(("no cache", pool), {}), speed.get(("cache", pool), {})
        ttft = [spread(list(first.get((cache, pool), {}).values())) for cache in ("no cache", "cache")]
        lines.append(row([pool, spread(list(off.values())), spread(list(on.values())), percent(on, off), *ttft]))
    lines += ["", row(["", "no prefix cache", "prefix cache"]), rule(range(2))]
    for name, a, b in (("10,000 users beside 1 user", "10,000 users", "1 user"), ("1 user beside bare", "1 user", "bare")):
        lines.append(row([name] + [percent(speed.get((cache, a), {}), speed.get((cache, b), {}))
                                   for cache in ("no cache", "cache")]))
    return lines + [""]


def problems(records):
    """What did not work, and whether the machine was quiet."""
    lines = []
    for record in records:
        name = f"{record.get('model', 'alone')}, {record['engine']}, repeat {record['repeat'] + 1}"
        lines += [f"- {name}, {where}: {error}" for where, error in record["errors"].items()]
    shares = [numbers["others"] for record in records for numbers in record["levels"].values() if "others" in numbers]
    if shares:
        lines.append(f"- Other programs used {100 * statistics.median(shares):.1f} % of the processors (median), "
                     f"{100 * max(shares):.1f} % at most.")
    return lines


def values(column, records):
    _, level, read, _ = column
    sources = records if level is None else [r["levels"][level] for r in records if level in r["levels"]]
    found = [read(source) for source in sources]
    return [value for value in found if value is not None]


def percent(a, b):
    """How much more a is than b: the median over repeats of their ratio."""
    ratios = [a[repeat] / b[repeat] for repeat in a if repeat in b and b[repeat]]
    return f"{100 * (statistics.median(ratios) - 1):+.1f} %" if ratios else "-"


def better(column, ours, theirs):
    if not ours or not theirs:
        return "-"
    return f"{ours / theirs if column[3] else theirs / ours:.2f}"


def pick(column, found):
    found = [value for value in found if value]
    return (max if column[3] else min)(found) if found else None


def median(found):
    return statistics.median(found) if found else None


def spread(found):
    if not found:
        return "-"
    middle = number(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} ({number(min(found))}-{number(max(found))})"


def number(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def rule(columns):
    return "|" + "---|" * (len(list(columns)) + 1)


def unique(names):
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(markdown(json.load(file)), end="")
