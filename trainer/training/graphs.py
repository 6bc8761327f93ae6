"""CUDA graphs, an option: forward and backward of a micro-batch are recorded once and replayed with one launch.

A step of static shapes is the same kernels on the same addresses every time, once three things hold:

    inputs      every batch is copied into buffers that stay
    gradients   they are added up in place in buffers that stay: cleared, not dropped, before a step
    figures     loss, hits and number of targets are read from a buffer that stays

The first micro-batch of each shape warms up (compilation, workspaces) on a stream of its own and is recorded there;
that leaves gradients as they were. The update, the sums over ranks and the reading of figures stay outside.

Refused: CPUs; several ranks, whose collectives would have to be recorded with their hooks; and `recompute`, which saves
the random state, and that may not be asked for while recording.
"""

from collections.abc import Callable

import torch

from mlm_data.errors import ConfigError
from trainer.config import RunSettings
from trainer.training.data import Tensors
from trainer.training.optim import Optimizer
from trainer.training.parallel import ALONE, Parallel
from trainer.training.step import Stepper

WARM_UP = 3  # times before recording, as torch's documentation advises

# Takes what is to be done, does it a few times, and returns what does it again.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


def check(settings: RunSettings, device: torch.device, world: int) -> None:
    """Refuse what can't be recorded.

    Raises:
        ConfigError: on a CPU, with several ranks, or with recompute.
    """
    if not settings.cuda_graphs:
        return
    if device.type != "cuda":
        raise ConfigError(f"cuda_graphs: needs an NVIDIA GPU, this run is on {device.type}: remove cuda_graphs")
    if world > 1:
        raise ConfigError(f"cuda_graphs: only with one rank, there are {world}: remove cuda_graphs")
    if settings.recompute:
        raise ConfigError("cuda_graphs: can't be recorded with recompute: remove one of the two")


def record(act: Callable[[], None]) -> Callable[[], None]:
    """Do something on the current GPU a few times, then record it; returns what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            act()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        act()
    return graph.replay


class GraphStepper(Stepper):
    """A `Stepper` whose micro-batches are replayed. `recorder` is `record`, or in tests what needs no GPU."""

    def __init__(
        self,
        forward: torch.nn.Module,
        optimizer: Optimizer,
        *,
        table_rows: int,
        parallel: Parallel = ALONE,
        recorder: Recorder = record,
    ) -> None:
        super().__init__(forward, optimizer, table_rows=table_rows, parallel=parallel)
        optimizer.keep_gradients()
        self._recorder = recorder
        self._graphs: dict[tuple, _Graph] = {}

    def _accumulate(self, batch: Tensors) -> torch.Tensor:
        shapes = tuple(tensor.shape for tensor in batch)
        if shapes not in self._graphs:
            self._graphs[shapes] = _Graph(batch, super()._accumulate, self.optimizer, self._recorder)
        return self._graphs[shapes].run(batch)


class _Graph:
    """One recorded micro-batch of one shape."""

    def __init__(
        self, batch: Tensors, accumulate: Callable[[Tensors], torch.Tensor], optimizer: Optimizer, recorder: Recorder
    ) -> None:
        self._inputs = Tensors(*(tensor.clone() for tensor in batch))
        self._sums = torch.zeros(3, dtype=torch.float64, device=batch.input_ids.device)

        def act() -> None:
            self._sums.copy_(accumulate(self._inputs))

        gradients = optimizer.gradients()
        kept = [gradient.clone() for gradient in gradients]  # of the micro-batches before this one
        self._replay = recorder(act)
        torch._foreach_copy_(gradients, kept)

    def run(self, batch: Tensors) -> torch.Tensor:
        """Add this batch's gradients to the others; returns loss sum, hits and targets."""
        torch._foreach_copy_(list(self._inputs), list(batch))
        self._replay()
        return self._sums.clone()
