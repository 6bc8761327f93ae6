"""The Beam pipeline and the command `premask`. Thin transforms around `mlm_data`."""
