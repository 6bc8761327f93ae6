"""The one way in which this project compiles a loop.

`kernel` is `numba.njit` without the GIL and with its machine code cached beside the source, so that threads scale
and a second process starts warm. Kernels take and return plain numpy arrays; the public function that wraps a
kernel has the docstring, the checks and the shapes. Test every kernel against a plain Python or numpy twin.
"""

import numba

kernel = numba.njit(cache=True, nogil=True)
