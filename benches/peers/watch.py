"""What a process and its children hold and use, and how much of the processor others use meanwhile. Linux only."""

import os
import pathlib
import resource
import threading

TICKS = os.sysconf("SC_CLK_TCK")


class Watch:
    """Follows the memory of a process tree, some twice a second, until it is left."""

    def __init__(self, pid):
        self.pid = pid
        self.peak_mib = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def follow(self):
        while not self.ended.wait(0.5):
            self.peak_mib = max(self.peak_mib, memory_mib(self.pid))


class Others:
    """The share of all processors that was used by neither a process tree nor the programs that ran here and ended."""

    def __init__(self, pid):
        self.pid = pid
        self.before = self.reading()

    def share(self):
        busy, ours, capacity = (now - then for now, then in zip(self.reading(), self.before))
        return max(0.0, busy - ours) / capacity if capacity else 0.0

    def reading(self):
        fields = pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]
        ticks = [int(field) for field in fields[:8]]
        idle = ticks[3] + ticks[4]
        client = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = resource.getrusage(resource.RUSAGE_SELF)
        seconds = sum(usage.ru_utime + usage.ru_stime for usage in (client, own))
        ours = sum(processor_ticks(pid) for pid in tree(self.pid)) + seconds * TICKS
        return sum(ticks) - idle, ours, sum(ticks)


def memory_mib(pid):
    """What a tree holds in memory; pages that several processes share count once (PSS)."""
    total = 0
    for member in tree(pid):
        try:
            text = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def processor_ticks(pid):
    try:
        # The name, in brackets, may hold spaces.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def tree(pid):
    """A process and all below it."""
    found, open_ = [], [pid]
    while open_:
        member = open_.pop()
        found.append(member)
        for children in pathlib.Path(f"/proc/{member}/task").glob("*/children"):
            try:
                open_ += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found
