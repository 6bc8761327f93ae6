"""Compiled libraries: what is said, and what is done instead, where none can be had."""

import subprocess
from pathlib import Path

import pytest
import torch

from trainer.kernels import native, segments
from trainer.model import attention as at


def test_no_compiler_means_products_over_whole_rows(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    native.problem.cache_clear()
    native.library.cache_clear()
    try:
        assert segments.problem() == "no C++ compiler"
        for precision in (torch.float32, torch.bfloat16):
            assert at.attention_kind(torch.device("cpu"), precision) == "batched"
    finally:
        native.problem.cache_clear()
        native.library.cache_clear()


def test_a_compiler_that_fails_says_why(monkeypatch, tmp_path):
    broken = tmp_path / "g++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such option" >&2; exit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(broken))
    native.problem.cache_clear()
    native.library.cache_clear()
    try:
        assert segments.problem() == "no such option"
        assert list((tmp_path / "cache/premask").iterdir()) == []
    finally:
        native.problem.cache_clear()
        native.library.cache_clear()


@pytest.mark.skipif(native.problem("norm") is not None, reason=f"no kernels on this machine: {native.problem('norm')}")
def test_who_asks_for_one_library_gets_all_compiled_and_one_that_fails_hurts_no_other(monkeypatch, tmp_path):
    compiled = []

    def compile_all_but_one(command, **options):
        if command[-1].endswith("gated.cpp"):
            raise subprocess.CalledProcessError(1, command, stderr="no such register")
        if command[-1].endswith(".cpp"):
            compiled.append(Path(command[-1]).stem)
        return run(command, **options)

    run = subprocess.run
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native.subprocess, "run", compile_all_but_one)
    native.problem.cache_clear()
    native.library.cache_clear()
    try:
        assert native.problem("norm") is None
        assert sorted(compiled) == ["geglu_bf16", "norm", "products", "segments", "segments_bf16", "softmax"]
        assert native.problem("softmax") is None
        assert native.problem("gated") == "no such register"
        assert len(compiled) == 6
        assert len(list((tmp_path / "premask").iterdir())) == 6
    finally:
        native.problem.cache_clear()
        native.library.cache_clear()
