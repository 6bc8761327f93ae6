"""Premask's steps in other people's pipelines.

    from pipelines.compose import Build, CleanTexts

    pipeline | "Dataset" >> Build("premask.yaml")                     # the whole flow; yields the version's digest
    files = pipeline | "Texts" >> CleanTexts("premask.yaml", output="gs://bucket/cleaned")
    files | beam.Map(lambda done: ...)                                # runs when all is written

Both plan when they are applied, as `premask build` does: they list the inputs, and read or train the tokenizer. The
steps alone, for a pipeline that puts something between them, are `Units`, `Prepare`, `Deduplicate`, `NearDuplicates`,
`Assemble` and `Publish` of `pipelines.steps`: they take collections of messages (`mlm_data.build.account`) and give
one; `pipelines.build.construct` joins them.
`pipelines/beam_providers.yaml` offers `Build` and `CleanTexts` to Beam YAML.
"""

from typing import Literal

import apache_beam as beam
from apache_beam.transforms.display import DisplayDataItem

from mlm_data.build.clean_texts import Output, check_folders
from mlm_data.build.plan import find_tokenizer, make_context, make_plan
from mlm_data.config import TEXTS_ONLY, load_config
from mlm_data.dataset.publish import check_output
from mlm_data.stores.folder import Folder
from mlm_data.stores.places import absolute
from pipelines.build import construct


class _Whole(beam.PTransform):
    """What both have in common."""

    _yaml_requires_inputs = False  # Beam YAML looks for this name: they begin a pipeline

    def __init__(self, config: str, overrides: list[str] | None = None) -> None:
        super().__init__()
        self._config, self._overrides = config, list(overrides or [])

    def display_data(self) -> dict[str, DisplayDataItem]:
        """The configuration's file and what overrides it, for the runner's page."""
        shown = {"config": DisplayDataItem(str(self._config), label="Configuration")}
        if self._overrides:
            shown["overrides"] = DisplayDataItem("; ".join(self._overrides), label="Overrides")
        return shown


class Build(_Whole):
    """A dataset from a configuration: all of `premask build`, as one transform.

    Args:
        config: path of the build's YAML file.
        overrides: FIELD=VALUE, as for `--set`.
    """

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[bytes]:
        """One element: the digest of the version that was published, as bytes.

        Raises:
            PremaskError: for whatever a user can mend.
        """
        config = load_config(self._config, self._overrides)
        check_output(Folder(config.output))
        plan = make_plan(config)
        return construct(root, plan.units, make_context(config, plan, find_tokenizer(config, plan)))


class CleanTexts(_Whole):
    """Cleaned documents as files: all of `premask clean`, as one transform.

    Args:
        config: path of the build's YAML file.
        output: where the documents go.
        dropped: where the others go, each with its reason.
        format: jsonl or parquet.
        overrides: FIELD=VALUE, as for `--set`.
    """

    def __init__(
        self,
        config: str,
        output: str,
        dropped: str | None = None,
        format: Literal["jsonl", "parquet"] = "jsonl",  # noqa: A002
        overrides: list[str] | None = None,
    ) -> None:
        super().__init__(config, overrides)
        self._output, self._dropped, self._format = output, dropped, format

    def display_data(self) -> dict[str, DisplayDataItem]:
        """The configuration and where the texts go."""
        return super().display_data() | {"output": DisplayDataItem(self._output, label="Output")}

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[bytes]:
        """One element, `done`, when all is written.

        Raises:
            PremaskError: for whatever a user can mend.
        """
        config = load_config(self._config, self._overrides, defaults=TEXTS_ONLY)
        config = config.model_copy(update={"output": absolute(self._output)})
        output = Output(format=self._format, dropped=self._dropped and absolute(self._dropped))
        check_folders(config.output, output.dropped)
        plan = make_plan(config)
        return construct(root, plan.units, make_context(config, plan, None), output)
