"""The peers of the benchmark train on what this trainer trains on."""

import numpy as np
import pytest
import torch

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.loading.loader import Loader
from mlm_data.tokens.reference import from_bytes
from tests.synthetic import make_dataset
from trainer.studies import peers as pr
from trainer.training import machine as mc


@pytest.fixture
def words(tmp_path, tokenizer) -> Dataset:
    """A dataset with a real tokenizer."""
    known = from_bytes(tokenizer)
    facts = {"vocab_size": known.vocab_size, "tokenizer": tokenizer, "roles": known.roles}
    return Dataset.open(make_dataset(tmp_path / "words", **facts))


def test_peers_get_the_same_documents(dataset):
    opened = Dataset.open(dataset)
    roles = opened.manifest.roles
    batch = next(Loader(opened, batch_rows=4))
    rows = pr._as_rows(batch, 4, 64)
    assert torch.equal(rows["input_ids"].reshape(-1), torch.from_numpy(batch.input_ids).long())
    assert int((rows["labels"] >= 0).sum()) == batch.num_targets
    padded, useful = pr.one_document_per_row(batch, 4, 64, roles)
    borders = np.unique(batch.cu_seqlens)
    first = batch.input_ids[borders[0] : borders[1]]
    assert padded["input_ids"][0, : first.size].tolist() == first.tolist()
    assert useful == int(padded["attention_mask"].sum()) - 2 * padded["input_ids"].shape[0]


def test_the_collator_is_given_whole_documents_and_masks_them(words):
    pytest.importorskip("transformers")
    roles = words.manifest.roles
    padded, _ = pr.one_document_per_row(next(Loader(words, batch_rows=4)), 4, 64, roles)
    texts = pr.documents(padded)
    assert [len(text["input_ids"]) for text in texts] == padded["attention_mask"].sum(1).tolist()
    torch.manual_seed(0)
    batch = pr.hf_collator(words, 64)(texts)
    assert torch.equal(batch["attention_mask"], padded["attention_mask"])
    hidden = batch["labels"] >= 0
    for row, text in enumerate(texts):
        ids = torch.tensor(text["input_ids"])
        assert roles.mask not in ids
        found = torch.where(hidden[row], batch["labels"][row], batch["input_ids"][row])
        assert torch.equal(found[: len(ids)], ids)
    special = torch.isin(padded["input_ids"], torch.tensor([roles.cls, roles.sep, roles.pad]))
    assert not (hidden & special).any()
    assert 0.1 < hidden.sum() / (~special).sum() < 0.5  # 30 %, drawn for each place


def test_peers_are_chosen_by_name(words, settings):
    pytest.importorskip("transformers")
    chosen = settings("budget.steps=1")
    given = (words, chosen, mc.choose(chosen), [next(Loader(words, batch_rows=4))], [100])
    (peer,) = pr.make_peers(*given, ["HF BERT"])
    assert peer.name == pr.BERT
    peer.step(0)  # with batches of HF's collator
    with pytest.raises(ConfigError, match="no peer's name holds GPT: they are HF ModernBERT, eager"):
        pr.make_peers(*given, ["GPT"])
