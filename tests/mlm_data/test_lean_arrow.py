"""Arrow finds no pandas, and whoever imports it does."""

import subprocess
import sys

from tests.conftest import ROOT

PROGRAM = """
import sys
import numpy as np
import pyarrow as pa
from mlm_data.lean_arrow import leave_pandas_out

leave_pandas_out()
table = pa.table({"a": np.arange(3), "b": ["x", None, "z"]})
assert "pandas" not in sys.modules
import pandas as pd
leave_pandas_out()
assert table.to_pandas()["a"].tolist() == [0, 1, 2]
assert pa.array(pd.Series([1, 2, 3])).to_pylist() == [1, 2, 3]
"""


def test_arrow_leaves_pandas_to_others():
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True)
