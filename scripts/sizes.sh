#!/bin/sh
# Lines of Rust per package (of the root package: per module), and how long functions are.
#
#     scripts/sizes.sh [DIR]
#
# DIR is a checkout of this repository, by default this one; `git worktree add DIR COMMIT` makes one of an older commit.
# A function is counted from its `fn` to its closing brace; functions of tests are counted apart.
set -eu
cd "${1:-$(dirname "$0")/..}"
git ls-files '*.rs' | python3 -c '
import re, sys

# Comments, strings and character literals, whose braces do not count.
NOISE = re.compile(
    r"//[^\n]*|/\*.*?\*/|b?r(#*)\".*?\"\1|b?\"(?:\\.|[^\"\\])*\"|b?\x27(?:\\[^\n]*?|[^\\\x27\n])\x27", re.S
)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def functions(text):
    """(line, lines) of each function with a body."""
    text = NOISE.sub(blank, text)
    for found in re.finditer(r"\bfn\s+\w+", text):
        at, depth = found.end(), 0
        while at < len(text) and (depth or text[at] not in "{;"):
            depth += (text[at] in "([") - (text[at] in ")]")
            at += 1
        if at == len(text) or text[at] == ";":
            continue
        depth, end = 1, at + 1
        while depth and end < len(text):
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        yield text.count("\n", 0, found.start()), text.count("\n", found.start(), end) + 1


def package(path):
    parts = path.split("/")
    if parts[0] == "src" and len(parts) > 1:
        return "src/" + parts[1].removesuffix(".rs")
    return "/".join(parts[:2] if parts[0] in ("crates", "tests") else parts[:1]).removesuffix(".rs")


def quantiles(lengths):
    lengths = sorted(lengths)
    at = lambda q: lengths[min(int(q * len(lengths)), len(lengths) - 1)]
    return f"{len(lengths)} functions, lines: p50 {at(0.5)}, p90 {at(0.9)}, max {lengths[-1]}"


lines, code, tests = {}, [], []
for path in sys.stdin.read().split():
    text = open(path, encoding="utf-8").read()
    name = package(path)
    lines[name] = lines.get(name, 0) + text.count("\n")
    in_tests = text.count("\n", 0, text.find("#[cfg(test)]\nmod ")) if "#[cfg(test)]\nmod " in text else 1 << 30
    whole = path.startswith(("tests/", "loadtest/tests/")) or "/tests/" in path or path.endswith("/tests.rs")
    for line, length in functions(text):
        (tests if whole or line >= in_tests else code).append(length)
for name in sorted(lines):
    print(f"{lines[name]:7}  {name}")
print(f"{sum(lines.values()):7}  in all")
print("code: ", quantiles(code))
print("tests:", quantiles(tests))
'
