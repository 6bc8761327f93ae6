"""Hosts of URLs, and lists of those that are not wanted."""

import pyarrow as pa
import pytest

from mlm_data.curation.domains import blocked, hosts, read_blocklist
from mlm_data.errors import ConfigError, InputError
from mlm_data.stores.folder import read_input


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.org/a?b#c", "example.org"),
        ("HTTPS://Example.ORG", "example.org"),
        ("http://me:pw@example.org:8080/x@y.org", "example.org"),
        ("http://example.org@evil.org/", "evil.org"),
        ("http://a@b@evil.org/", "evil.org"),
        ("//example.org/a", "example.org"),
        ("example.org/a", "example.org"),
        ("example.org:80/a", None),  # a scheme, by RFC 3986
        ("https://example.org./", "example.org"),
        ("https://bücher.example/ü", "xn--bcher-kva.example"),
        ("https://BÜCHER.example", "xn--bcher-kva.example"),
        ("https://例え.jp:443", "xn--r8jz45g.jp"),
        ("http://[2001:DB8::1]:80/", "[2001:db8::1]"),
        ("http://192.0.2.1/", "192.0.2.1"),
        (" https://example.org", "example.org"),
        ("https://", None),
        ("", None),
        ("/path/only", None),
        (None, None),
        ("http://" + "a" * 300 + ".org", None),
        ("https:\\\\example.org\\a", "example.org"),
    ],
)
def test_hosts(url, host):
    got = hosts(pa.array([url], pa.string())).to_pylist()
    if url == "example.org:80/a":
        assert got[0] in {None, "80"}  # not to be told from a scheme
    else:
        assert got == [host]


def test_large_strings_and_linear_time():
    urls = pa.array(["http://" + "a@" * 500_000 + "b.org", "https://x.org"], pa.large_string())
    assert hosts(urls).to_pylist() == ["b.org", "x.org"]


def test_a_host_blocks_its_subdomains_only():
    urls = [
        "https://a.org/",
        "https://www.A.org",
        "https://x.y.a.org:1",
        "https://ba.org",
        "https://a.org.uk",
        "a.org",
        None,
        "org",
    ]
    got = blocked(pa.array(urls), {"a.org"})
    assert got.tolist() == [True, True, True, False, False, True, False, False]
    assert blocked(pa.array([], pa.string()), {"a.org"}).tolist() == []
    assert blocked(pa.array(["https://a.org"]), ()).tolist() == [False]
    assert blocked(pa.array([None, None], pa.string()), {"a.org"}).tolist() == [False, False]


def test_a_list(tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text("\ufeff# spam\nExample.org.  # the worst\n\nbücher.example\r\n192.0.2.1\n_x.org\n", "utf-8")
    listed = read_blocklist(path.read_bytes(), str(path))
    assert listed == {"example.org", "xn--bcher-kva.example", "192.0.2.1", "_x.org"}
    urls = pa.array(["https://www.bücher.example", "https://XN--BCHER-KVA.example/", "http://192.0.2.1:8/"])
    assert blocked(urls, listed).all()


@pytest.mark.parametrize(
    "line", ["https://example.org", "a b.org", "*.example.org", "-a.org", "a..org", "a@b.org", "a" * 64 + ".org"]
)
def test_a_line_of_garbage(tmp_path, line):
    path = tmp_path / "blocked.txt"
    path.write_text(f"# one\nexample.org\n{line}\n")
    with pytest.raises(ConfigError, match=r"blocked.txt, line 3: '.*' is no host: write example.org"):
        read_blocklist(path.read_bytes(), str(path))


def test_a_file_that_can_not_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt.*[Nn]o such file"):
        read_input(str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="binary is no text in UTF-8"):
        read_blocklist(b"\xff\xfe\x00", "binary")
