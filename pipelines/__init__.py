"""The Beam pipeline and the command `premask`. Thin transforms around `mlm_data`."""

import logging


def _is_asked_for(record: logging.LogRecord) -> bool:
    """Beam warns whoever imports it that clients for services of Google's are not there.

    So it does in a scheduler and in workers, whose logs `quiet_beam` doesn't reach: it is for our own commands.
    """
    return not str(record.msg).startswith("apitools not found")


logging.getLogger().addFilter(_is_asked_for)
