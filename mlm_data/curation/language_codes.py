"""Names of languages: one code for each, whatever the user wrote.

A code of ours is the primary subtag of BCP 47 (RFC 5646): the shortest code of ISO 639 that there is. So `en`, `eng`,
`EN-us` and `en_GB` are all `en`; `ger` and `deu` are `de`; `ceb` has no shorter one. Scripts and regions are dropped.

A macrolanguage stands for the member that people mean by it, as models do not keep them apart: `cmn` is `zh`, `arb` is
`ar`, `nb` and `nob` are `no` (Nynorsk stays `nn`). `sh` or `hbs`, where it is asked for, is `bs`, `hr` and `sr`.

Sources: ISO 639-3 and 639-2/B (Library of Congress), macrolanguages of ISO 639-3 (SIL), deprecated subtags of the IANA
Language Subtag Registry.
"""

import difflib
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from mlm_data.errors import ConfigError

UNDETERMINED = "und"  # ISO 639-2: no language could be found
NO_LANGUAGE = "zxx"  # ISO 639-2: what is no language, such as numbers
SERBO_CROATIAN = "sh"
GROUPS = {SERBO_CROATIAN: ("bs", "hr", "sr")}

# ISO 639-1, then ISO 639-3 and, where it is another one, ISO 639-2/B.
_ISO_639 = """
aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bi:bis
bm:bam bn:ben bo:bod,tib br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces,cze cu:chu cv:chv cy:cym,wel
da:dan de:deu,ger dv:div dz:dzo ee:ewe el:ell,gre en:eng eo:epo es:spa et:est eu:eus,baq fa:fas,per ff:ful fi:fin
fj:fij fo:fao fr:fra,fre fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv
ht:hat hu:hun hy:hye,arm hz:her ia:ina id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl,ice it:ita iu:iku ja:jpn
jv:jav ka:kat,geo kg:kon ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor
ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri,mao mk:mkd,mac ml:mal
mn:mon mr:mar ms:msa,may mt:mlt my:mya,bur na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld,dut nn:nno no:nor nr:nbl
nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run
ro:ron,rum ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk,slo sl:slv sm:smo sn:sna so:som
sq:sqi,alb sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn
to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho
yi:yid yo:yor za:zha zh:zho,chi zu:zul
"""
# The member of a macrolanguage that its code mostly means; names that are out of date; Filipino is standard Tagalog.
_MEANT = """
nb:no nob:no cmn:zh arb:ar pes:fa zsm:ms swh:sw ekk:et lvs:lv als:sq khk:mn npi:ne ory:or plt:mg uzn:uz azj:az gaz:om
pbt:ps kmr:ku ydd:yi nds-nl:nds fil:tl mo:ro mol:ro iw:he in:id ji:yi jw:jv scc:sr scr:hr srl:sr
"""


@lru_cache(maxsize=1)
def _codes() -> dict[str, str]:
    """The code of ours for each that ISO 639 has a shorter one for."""
    codes: dict[str, str] = {}
    for entry in _ISO_639.split():
        short, _, others = entry.partition(":")
        codes |= dict.fromkeys([short, *others.split(",")], short)
    return codes | dict(entry.split(":") for entry in _MEANT.split())


def shortest_code(code: str) -> str | None:
    """The code of ours for a tag of ISO 639 or BCP 47; None for what is neither. Whether it is in use is not checked.

    >>> [shortest_code(code) for code in ("eng", "ger", "zh-Hant-TW", "zh-yue", "nb_NO", "ceb", "English")]
    ['en', 'de', 'zh', 'yue', 'no', 'ceb', None]
    """
    primary, *rest = re.split("[-_]", code.strip().lower())
    if rest and re.fullmatch("[a-z]{3}", rest[0]):
        primary = rest[0]  # an extended subtag is a code of its own: zh-yue is yue (RFC 5646, section 2.2.2)
    if re.fullmatch("[a-z]{3}", primary):
        return _codes().get(primary, primary)
    return _codes().get(primary)


def parse_language(code: str, known: Collection[str] | None = None) -> str:
    """The code of ours for a tag that a user wrote.

    Args:
        code: of ISO 639-1, 639-2, 639-3 or BCP 47, in capitals or not.
        known: the codes that the model in use may give, if they are to be checked.

    Raises:
        ConfigError: it is no code of a language, or none that the model knows; with the nearest ones.

    >>> parse_language("DEU")
    'de'
    """
    parsed = shortest_code(code)
    if parsed is None:
        raise ConfigError(f"languages: {code!r} is no code of ISO 639 or BCP 47: write en, eng or en-US")
    if known is not None and parsed not in known and parsed not in GROUPS:
        near = difflib.get_close_matches(parsed, sorted(known), n=3, cutoff=0.5)
        hint = f"; it knows {', '.join(near)}" if near else ""
        raise ConfigError(f"languages: the model doesn't know {code!r}{hint}: see the list of languages, or keep: all")
    return parsed


def parse_languages(codes: Iterable[str], known: Collection[str] | None = None) -> tuple[str, ...]:
    """The codes of ours for several tags, sorted, each once; a group stands for itself and its members.

    >>> parse_languages(["eng", "en-GB", "hbs"])
    ('bs', 'en', 'hr', 'sh', 'sr')
    """
    parsed = {parse_language(code, known) for code in codes}
    return tuple(sorted(parsed.union(*(GROUPS.get(code, ()) for code in parsed))))
