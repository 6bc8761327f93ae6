"""Work in threads."""

import pytest

from mlm_data.threads import in_threads


def test_threads_keep_the_order_and_stop_at_an_error():
    assert list(in_threads(lambda n: n * n, range(20), workers=3)) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda n: 1 // (3 - n), range(20), workers=2))
