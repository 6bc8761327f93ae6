"""All files of a configuration's inputs, and what each of them is."""

from concurrent.futures import ThreadPoolExecutor

from mlm_data.config import BuildConfig, InputSettings
from mlm_data.errors import ConfigError
from mlm_data.text.encodings import check_encoding
from mlm_data.text.find import Found, expand
from mlm_data.text.identify import InputFile, identify

READERS = 16  # files looked at side by side: each costs one round trip to a bucket


def find_files(config: BuildConfig) -> tuple[list[InputFile], list[str]]:
    """The files of all inputs, sorted by source, and warnings for the plan.

    Raises:
        ConfigError: two files with one source, an unknown encoding.
        InputError: no file matches, or one can't be read.
    """
    found: dict[str, tuple[int, str]] = {}
    infos: list[tuple[int, str, Found]] = []
    warnings: list[str] = []
    for number, settings in enumerate(config.inputs):
        _check(settings, number)
        items, more = expand(settings.path, number)
        warnings += more
        for item in items:
            source = f"{settings.name}/{item.relative}" if settings.name else item.relative
            other, path = found.setdefault(source, (number, item.path))
            if path != item.path:
                raise ConfigError(
                    f"inputs.{number}: {item.path} and {path} would both be called {source!r}: "
                    f"give inputs.{number} or inputs.{other} a `name:`"
                )
            if other != number:
                warnings.append(f"{source}: matched by inputs.{other} and inputs.{number}; read once, as the former")
                continue
            infos.append((number, source, item))
    by_content = config.cache.identity == "content"

    def look(info: tuple[int, str, Found]) -> InputFile:
        return identify(config.inputs[info[0]], *info, by_content=by_content)

    with ThreadPoolExecutor(READERS) as pool:
        files = list(pool.map(look, infos))
    return sorted(files, key=lambda file: file.source), warnings


def _check(settings: InputSettings, number: int) -> None:
    check_encoding(settings.encoding)
    if settings.format == "text" and (settings.id_field is not None or settings.keep_fields):
        raise ConfigError(f"inputs.{number}: text has no fields: leave out id_field and keep_fields")
