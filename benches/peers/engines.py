"""The engines: how each is started, asked and ended. All take `Setup`, start with `start()`, which returns the
seconds until they could answer, and have `level()`, whose numbers are named as in a report of loadtest."""

import ctypes.util
import dataclasses
import http.client
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import threading
import time
import tomllib

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
START_LIMIT_S = 600
LEVEL_LIMIT_S = 900
# A peer answers 32 clients at once, with room for prompts of 1024 tokens.
SLOTS, SLOT_TOKENS = 32, 1280


class Failed(Exception):
    """An engine that did not start, did not answer, or answered less than it was asked for."""


@dataclasses.dataclass
class Setup:
    """What a run has in common."""

    home: pathlib.Path  # where install.sh put the peers
    out: pathlib.Path
    bin: pathlib.Path
    threads: int
    attune_flags: list


@dataclasses.dataclass
class Level:
    """A closed loop of `clients` over a scenario file beside this one."""

    scenario: str
    clients: int
    requests: int
    max_tokens: int
    seed: int = 0
    flags: tuple = ()

    def words(self):
        """The length of its prompts."""
        with open(HERE / self.scenario, "rb") as file:
            return tomllib.load(file)["prompts"]["tokens"]


class Server:
    """An engine behind HTTP, asked by loadtest."""

    def __init__(self, setup, name, command, health, model="attune", environment=None):
        self.setup, self.name, self.command, self.health = setup, name, command, health
        self.model, self.environment = model, environment or {}
        self.process = self.port = None

    def start(self):
        self.port = free_port()
        command = [str(word).replace("$PORT", str(self.port)) for word in self.command]
        begin = time.perf_counter()
        self.process = launch(self.setup, self.name, command, self.environment)
        while not self.answers():
            fail_unless_alive(self, begin)
            # Often enough for a start of less than a second, and seldom enough not to slow a long one.
            time.sleep(max(0.005, (time.perf_counter() - begin) / 100))
        return time.perf_counter() - begin

    def answers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.health)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def level(self, level):
        report = self.setup.out / "level.json"
        report.unlink(missing_ok=True)
        command = [
            self.setup.bin / "loadtest", "run", "--quiet", "--scenario", HERE / level.scenario,
            "--url", f"http://127.0.0.1:{self.port}", "--model", self.model, "--json", report,
            "--concurrency", level.clients, "--requests", level.requests, "--max-tokens", level.max_tokens,
            "--seed", level.seed, *level.flags,
        ]
        try:
            done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, timeout=LEVEL_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{level.clients} clients took over {LEVEL_LIMIT_S} s") from None
        if done.returncode != 0:
            raise Failed(f"loadtest: {done.stdout.strip()[-300:]}")
        return checked(json.loads(report.read_text())["levels"][0], level)

    def stop(self):
        end(self.process)


class OpenVino:
    """OpenVINO GenAI in a process of openvino_client.py."""

    def __init__(self, setup, name, model):
        self.setup, self.name = setup, name
        self.command = [setup.home / "openvino/bin/python", HERE / "openvino_client.py", model, setup.threads,
                        ROOT / "loadtest/src/prompts.rs"]
        self.process = None

    def start(self):
        begin = time.perf_counter()
        self.process = launch(self.setup, self.name, self.command, {}, pipes=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=[self.process.stdout], daemon=True).start()
        while self.line(START_LIMIT_S) != "ready":
            pass
        return time.perf_counter() - begin

    def read(self, stream):
        for line in stream:
            self.lines.put(line.strip())
        self.lines.put(None)

    def line(self, limit):
        try:
            line = self.lines.get(timeout=limit)
        except queue.Empty:
            raise Failed(f"said nothing for {limit} s") from None
        if line is None:
            raise Failed(f"ended: {last_words(self)}")
        return line

    def level(self, level):
        order = {"clients": level.clients, "requests": level.requests, "words": level.words(),
                 "max_tokens": level.max_tokens, "seed": level.seed}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        while not (line := self.line(LEVEL_LIMIT_S)).startswith("{"):
            pass
        return checked(json.loads(line), level)

    def stop(self):
        end(self.process)


def attune(setup, name, data, model=None, flags=()):
    """attune with the version that `data` promotes; its default model without `model`."""
    which = ["--model", model] if model else []
    command = [setup.bin / "attune", "serve", "--port", "$PORT", "--data-dir", data, "--no-demo",
               "--threads", setup.threads, *which, *flags, *setup.attune_flags]
    return Server(setup, name, command, "/readyz", environment={"ATTUNE_LOG": "warn"})


def llama(setup, name, model):
    # Prompts that are never seen again are not worth a copy in memory (--cache-ram).
    command = [setup.home / "llama/programs/llama-server", "--model", model, "--host", "127.0.0.1", "--port", "$PORT",
               "--threads", setup.threads, "--parallel", SLOTS, "--ctx-size", SLOTS * SLOT_TOKENS, "--cache-ram", 0]
    return Server(setup, name, command, "/health")


def vllm(setup, name, model):
    # Its own command, `vllm`, asks for the version of a package of that name, and this one is called otherwise.
    command = [setup.home / "vllm/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model", model,
               "--host", "127.0.0.1", "--port", "$PORT",
               "--served-model-name", "attune", "--dtype", "bfloat16", "--max-model-len", 2048, "--max-num-seqs", 64,
               "--disable-log-stats"]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{setup.threads - 1}" if setup.threads > 1 else "0",
        # Its documentation asks for both, "for best performance".
        "LD_PRELOAD": " ".join(str(path) for path in preloads(setup.home)),
        "VLLM_CACHE_ROOT": str(setup.home / "vllm/cache"),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(setup.home / "vllm/hub"),
    }
    return Server(setup, name, command, "/health", environment=environment)


def preloads(home):
    """Intel's OpenMP, which is installed with vLLM, and an allocator, if this machine has it."""
    found = list((home / "vllm/lib").glob("libiomp5.so"))
    allocator = ctypes.util.find_library("tcmalloc_minimal")
    return found + ([allocator] if allocator else [])


def checked(numbers, level):
    """The numbers of a level, if every answer came whole."""
    if numbers["failed"] or numbers["ok"] != level.requests:
        errors = "; ".join(f"{kind}: {error['example'][:100]}" for kind, error in numbers.get("errors", {}).items())
        raise Failed(f"{numbers['failed']} of {level.requests} requests failed at {level.clients} clients {errors}")
    return numbers


def launch(setup, name, command, environment, pipes=False):
    """Starts `command` as the head of a process group of its own; its words go into a log below `out`."""
    log = open(setup.out / f"{name}.log", "w")
    channel = subprocess.PIPE if pipes else subprocess.DEVNULL
    return subprocess.Popen([str(word) for word in command], stdin=channel, stdout=channel if pipes else log, stderr=log,
                            env={**os.environ, **environment}, text=True, start_new_session=True)


def fail_unless_alive(engine, begin):
    if engine.process.poll() is not None:
        raise Failed(f"ended with {engine.process.returncode} before it answered: {last_words(engine)}")
    if time.perf_counter() - begin > START_LIMIT_S:
        raise Failed(f"did not answer for {START_LIMIT_S} s")


def end(process):
    """Ends a process and what it has started: politely, then for certain."""
    if process is None:
        return
    for kind, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        if process.poll() is None:
            process.send_signal(kind)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
    # Its group has its id, also when it has ended before its children.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def last_words(engine):
    lines = (engine.setup.out / f"{engine.name}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else "it said nothing"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
