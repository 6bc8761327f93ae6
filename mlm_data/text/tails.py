"""Is a compressed file whole? What its first and last bytes can tell, before anything is unpacked.

Only what is certain: a sound file is never called cut, but most cut gzip and all cut Zstandard files of some size look
sound until they are read.

    xz      ends with "YZ" (.xz file format 1.1.0, section 2.1.2.4), behind it at most zeros
    bzip2   ends with the 48 bits 0x177245385090, the CRC of 32 bits, and up to 7 bits to the end of the byte
    gzip    ends with the length of the last member (RFC 1952); DEFLATE makes at most 1,032 bytes out of one.
            What bgzip wrote ends with an empty block of its own (SAM specification, section 4.1.2)
"""

TAIL_BYTES = 64

_BZIP2_END = 0x177245385090
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_DEFLATE_RATIO = 1032


def is_cut(codec: str, head: bytes, tail: bytes, num_bytes: int) -> bool:
    """Whether a compressed file certainly lacks its end.

    Args:
        codec: a key of CODECS.
        head: its first bytes, at least 16 of them where it has so many.
        tail: its last `TAIL_BYTES` bytes, or all of a shorter file.
        num_bytes: how long it is.
    """
    if codec == "xz":
        end = tail.rstrip(b"\0")
        return bool(end) and not end.endswith(b"YZ")
    if codec == "bzip2":
        bits = int.from_bytes(tail[-11:], "big")
        return not any(bits >> (pad + 32) & (1 << 48) - 1 == _BZIP2_END for pad in range(8))
    if codec == "gzip":
        if head[12:14] == b"BC" and head[3] & 4:
            return not tail.endswith(_BGZF_END)
        return int.from_bytes(tail[-4:], "little") > _DEFLATE_RATIO * num_bytes
    return False
