"""A secret in a dataset's URI is in no file of a run, and no line that is printed; the run goes on with it."""

import json

import pytest

from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder
from tests.mlm_data.stores.emulators import BUCKET, s3_server
from tests.synthetic import make_dataset
from trainer.config import resolve
from trainer.training.loop import train

SECRET = "sEcReT0"


def test_a_run_keeps_no_secret(small, tmp_path, monkeypatch, capfd):
    made = make_dataset(tmp_path / "made", num_rows=24, validation_rows=4, vocab_size=100)
    monkeypatch.setenv("PREMASK_CACHE", str(tmp_path / "cache"))
    with s3_server() as store:
        store.enter(monkeypatch)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        data = f"s3://AKIAKEY:{SECRET}@{BUCKET}/made"
        for path in made.rglob("*"):
            if path.is_file():
                Folder(data).write(str(path.relative_to(made)), path.read_bytes())
        run, said = tmp_path / "run", []
        overrides = [*small, f"mix=[{{data: '{data}', weight: 0.5}}]", "schedule.decay_share=0"]
        values = {"data": data, "out": str(run)}
        for steps in (8, 12):
            train(
                resolve(recipe_name="tiny", values=values, overrides=[*overrides, f"budget.steps={steps}"]),
                say=said.append,
            )
        with pytest.raises(FormatError) as caught:
            train(resolve(recipe_name="tiny", values=values | {"data": f"{data}-not"}, overrides=overrides))
        assert "resumed from step 8" in said
        assert SECRET not in "".join([*said, str(caught.value), *capfd.readouterr()])
    assert json.loads((run / "run.json").read_bytes())["settings"]["data"] == f"s3://{BUCKET}/made"
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
