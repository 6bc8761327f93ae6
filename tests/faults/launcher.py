"""A process that has imported the command `premask`, has built once, and forks for each build: so one begins at once.

The configuration of the first build is its only argument. It reads orders from standard input, a JSON object in a
line, and answers with the number of the process; so the tests can send it signals. When that has ended, its exit code
is in `<err>.code`, as Python counts. An order:

    argv    what stands after `premask`
    err     a file for standard error
    fault   {"at": [moment, pattern, n]}    SIGKILL at the n-th of these moments of a file whose name in its folder
                                            matches: "while" it is written, "before" it gets its name, or "after"
            {"raise": [step, error]}        the first part of a step raises this error
            {"clock": seconds}              the clock is wrong by so much
            {"change": [path, new]}         once the tokenizer is there, a file gets the bytes of another; "": deleted
            {}                              nothing

Before it kills itself, the process makes the file `<err>.reached`: a point that is never reached proves nothing. What
is patched is patched here, and only here.
"""

import fnmatch
import itertools
import json
import os
import signal
import sys
import threading
import time
import types

import grpc

import pipelines.build
from mlm_data import errors
from mlm_data.stores.folder import Folder
from pipelines import steps
from pipelines.commands import cli


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not survive a fork
    told = os.dup(1)
    os.dup2(2, 1)
    assert cli.main(["build", sys.argv[1], "--workers=1"]) == 0
    os.dup2(told, 1)
    assert threading.active_count() == 1, threading.enumerate()
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            build(order)
        print(pid, flush=True)
        threading.Thread(target=wait, args=(pid, order["err"]), daemon=True).start()


def wait(pid: int, err: str) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(f"{err}.code.part", "w") as file:
        file.write(str(code))
    os.rename(f"{err}.code.part", f"{err}.code")


def build(order: dict) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(order["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    prepare(order["fault"], f"{order['err']}.reached")
    sys.argv = ["premask", *order["argv"]]
    sys.exit(cli.main())


def prepare(fault: dict, reached: str) -> None:
    if "at" in fault:
        kill_at(*fault["at"], reached)
    if "raise" in fault:
        raise_in(*fault["raise"], reached)
    if "change" in fault:
        change(*fault["change"], reached)
    if "clock" in fault:
        turn_clock(fault["clock"])


def turn_clock(seconds: int) -> None:
    """Python's clock. gRPC hands times to a library that has the machine's: its modules keep that one."""
    grpc.channel_ready_future(grpc.insecure_channel("localhost:1")).cancel()  # so that all of them are imported
    real = types.SimpleNamespace(**vars(time))
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "grpc" and getattr(module, "time", None) is time:
            module.time = real
    time.time = lambda: real.time() + seconds


def change(path: str, new: str, reached: str) -> None:
    make = pipelines.build.make_context

    def wrapped(*args, **named):
        os.close(os.open(reached, os.O_CREAT))
        os.unlink(path)
        if new:
            os.rename(new, path)
        return make(*args, **named)

    pipelines.build.make_context = wrapped


def kill_at(moment: str, pattern: str, n: int, reached: str) -> None:
    counter, create, move = itertools.count(1), Folder.create, Folder._move

    def pass_by(at: str, name: str) -> None:
        if at == moment and fnmatch.fnmatchcase(name, pattern) and next(counter) == n:
            os.close(os.open(reached, os.O_CREAT))
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped_create(self, fill, name, **options):
        def wrapped_fill(sink):
            write = sink.write

            def half(data):
                data = memoryview(data).cast("B")
                write(data[: len(data) // 2])
                sink.flush()
                pass_by("while", name("0" * 64))
                write(data[len(data) // 2 :])
                return len(data)

            sink.write = half
            fill(sink)

        return create(self, wrapped_fill, name, **options)

    def wrapped_move(self, source, target):
        pass_by("before", target)
        move(self, source, target)
        pass_by("after", target)

    Folder.create, Folder._move = wrapped_create, wrapped_move


def raise_in(step: str, error: str, reached: str) -> None:
    for kind in steps._Work.__subclasses__():
        if kind.step.name == step:
            name = "process" if kind is steps._Publish else "work"

            def work(self, *args):
                os.close(os.open(reached, os.O_CREAT))
                raise {"bug": ValueError("a bug"), "refusal": errors.StorageError("x: can't write: a fault")}[error]
                yield

            setattr(kind, name, work)


if __name__ == "__main__":
    main()
