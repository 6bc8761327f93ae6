"""Arrow without pandas, for commands that answer at once.

Before Arrow makes its first array of Python or numpy values it imports pandas where that is installed, a quarter of a
second, to know a Series when it sees one. It asks once and remembers the answer.
"""

import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


def leave_pandas_out() -> None:
    """Let Arrow find no pandas, unless somebody has imported it already.

    For a process that has no pandas objects: Arrow would take a Series for any sequence. `to_pandas` still works.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, hiding := _NoPandas())
    try:
        pa.array([None])
    finally:
        sys.meta_path.remove(hiding)


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("hidden from Arrow", name=fullname)
