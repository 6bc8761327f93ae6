"""What a run writes for people: log.jsonl and TensorBoard."""

import hashlib
import json
import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any

from mlm_data.errors import ConfigError
from mlm_data.stores.folder import Folder, explain
from trainer.training.score import Score
from trainer.training.step import StepStats


class Spikes:
    """Notices a loss that is far above the last ones: by six of their standard deviations, and by a fifth."""

    def __init__(self, window: int = 50) -> None:
        self._seen: deque[float] = deque(maxlen=window)

    def sees(self, loss: float) -> bool:
        """Whether this loss is a spike. A spike is not remembered, so that the next one is seen too."""
        if len(self._seen) == self._seen.maxlen:
            mean = statistics.fmean(self._seen)
            if loss > 1.2 * mean and loss > mean + 6 * statistics.pstdev(self._seen, mean):
                return True
        self._seen.append(loss)
        return False


class Log:
    """Appends to log.jsonl; lines after the step that a run resumes from are removed first."""

    def __init__(self, run: Path, step: int, *, wandb: str | None = None) -> None:
        self._path = run / "log.jsonl"
        try:
            kept = [line for line in read_log(run) if line["step"] <= step]
            Folder(run).write(self._path.name, "".join(json.dumps(line) + "\n" for line in kept).encode())
            self._file = self._path.open("a", buffering=1)
        except OSError as error:
            raise explain(error, str(self._path), "write") from error
        self._board = _tensorboard(run / "tensorboard", step)
        self._wandb = _wandb(wandb, run) if wandb else None

    def step(self, step: int, stats: StepStats, rate: float) -> None:
        """One training step."""
        count = max(1, stats.targets)
        # JSON has no NaN: a skipped step says so instead.
        values = {"loss": stats.loss_sum / count, "accuracy": stats.hits / count, "norm": stats.norm}
        finite = _finite(values)
        self._write({"step": step, **finite, "targets": stats.targets, "rate": rate, "skipped": stats.skipped})
        self._scalars("train", finite | {"rate": rate}, step)

    def validation(self, step: int, score: Score) -> None:
        """One evaluation on the validation split."""
        values = _finite({"loss": score.loss, "accuracy": score.accuracy, "perplexity": score.perplexity})
        self._write({"step": step, "validation": values | {"targets": score.targets}})
        self._scalars("validation", values, step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise explain(error, str(self._path), "write") from error

    def _scalars(self, group: str, values: dict[str, float], step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({f"{group}/{name}": value for name, value in values.items()} | {"step": step})


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def read_log(run: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's log; a last line that a crash cut off is left out."""
    path = run / "log.jsonl"
    if not path.exists():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _wandb(project: str, run: Path) -> Any:
    """A run of Weights & Biases.

    Raises:
        ConfigError: if the package is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("wandb: the package is not installed: pip install wandb, or remove the setting") from error
    place = hashlib.sha256(str(run.absolute()).encode()).hexdigest()[:12]  # runs of one name in other folders differ
    return wandb.init(project=project, name=run.name, id=f"{run.name}-{place}", resume="allow")


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
