"""The names that people need to train on a dataset, and nothing else.

    from premask import open_dataset

    ds = open_dataset("datasets/books")
    for batch in ds.torch(batch_rows=32): ...

`import premask` costs nothing: the library is read when a dataset is opened, torch when `ds.torch` is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from premask.opened import OpenDataset as OpenDataset
    from premask.opened import open_dataset as open_dataset

__all__ = ["OpenDataset", "open_dataset"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from premask import opened

        return getattr(opened, name)
    if name == "__version__":
        from mlm_data import __version__

        return __version__
    raise AttributeError(f"module 'premask' has no attribute {name!r}")
