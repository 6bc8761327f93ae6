"""The Beam pipeline and the command `premask`. Thin transforms around `mlm_data`."""

import logging


def _is_asked_for(record: logging.LogRecord) -> bool:
    """Beam warns whoever imports it that clients for services of Google's are not there: in a scheduler or a worker, too,
    whose log is not ours to quieten as `quiet_beam` does that of a command."""
    return not str(record.msg).startswith("apitools not found")


logging.getLogger().addFilter(_is_asked_for)
