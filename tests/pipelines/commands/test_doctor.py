"""`premask doctor` as a person sees it."""

import json

from pipelines.commands.cli import main


def test_all_is_said_and_exit_codes_follow(tmp_path, capsys):
    assert main(["doctor", "--output", str(tmp_path / "out"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    names = [one["name"] for one in value["findings"]]
    wanted = ["python", "premask", "pyarrow", "numpy", "apache-beam", "torch", "kernels", "processor", "cores"]
    assert set(wanted) < set(names)
    assert {"memory", "open files", "output", "clocks", "disk"} < set(names)
    assert all(one["remedy"] for one in value["findings"] if one["state"] != "ok")
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--output", str(tmp_path / "file/out")]) == 1
    said = capsys.readouterr().out
    assert "bad" in said
    assert "-> choose a folder or bucket" in said


def test_a_runner_with_its_options(capsys):
    assert main(["doctor", "--runner", "local", "--direct_num_workers=2"]) == 0
    assert "local: it is there" in capsys.readouterr().out
    assert main(["doctor", "--runner", "local", "--direct_num_worker=2"]) == 1
    assert "did you mean --direct_num_workers?" in capsys.readouterr().out
    assert main(["doctor", "--runner", "portable"]) == 1
    assert "needs --job_endpoint" in capsys.readouterr().out
    assert main(["doctor", "--runner", "portable", "--job_endpoint", "localhost:1"]) == 1
    assert "nobody answers there" in capsys.readouterr().out


def test_an_option_that_nobody_knows_is_a_mistake(capsys):
    assert main(["doctor", "--outptu", "x"]) == 2
    assert "--outptu" in capsys.readouterr().err
