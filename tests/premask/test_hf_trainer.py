"""HF's own Trainer on `ds.torch`: the rows that it trains on are ours, in our order, before and after a resume."""

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    Trainer,
    TrainingArguments,
)

from premask import open_dataset
from tests.synthetic import make_dataset

pytest.importorskip("accelerate", reason="HF's Trainer needs it: pip install accelerate")
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
pytestmark = pytest.mark.filterwarnings("ignore")  # of HF's


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    return open_dataset(make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=50))


def bert(seen):
    """A small BERT that notes the labels that it is given."""
    torch.manual_seed(0)
    return watched(BertForMaskedLM(BertConfig(vocab_size=512, **SMALL)), seen)


def roberta(seen):
    config = RobertaConfig(vocab_size=512, max_position_embeddings=66, pad_token_id=1, **SMALL)
    return watched(RobertaForMaskedLM(config), seen)


def modernbert(seen):
    roles = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = ModernBertConfig(vocab_size=512, attn_implementation="sdpa", **roles, **SMALL)
    return watched(ModernBertForMaskedLM(config), seen)


def deberta(seen):
    return watched(DebertaV2ForMaskedLM(DebertaV2Config(vocab_size=512, relative_attention=True, **SMALL)), seen)


def watched(model, seen):
    def note(_module, _arguments, fields):
        if model.training:
            seen.append(fields["labels"].numpy().copy())

    model.register_forward_pre_hook(note, with_kwargs=True)
    return model


def train(model, rows, folder, steps, *, resume=False):
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        save_steps=2,
        per_device_train_batch_size=8,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_num_workers=0,
    )
    Trainer(model=model, args=arguments, train_dataset=rows).train(resume_from_checkpoint=resume)


def wanted(ds, steps, **options):
    stream = iter(ds.torch(batch_rows=8, **options))
    return [next(stream)["labels"].numpy() for _ in range(steps)]


@pytest.mark.parametrize(
    ("make", "offset"),
    [(bert, 0), (roberta, 2), (modernbert, 0), (deberta, 0)],
    ids=["bert", "roberta", "modernbert", "deberta"],
)
def test_the_trainer_trains_on_our_labels(ds, tmp_path, make, offset):
    seen = []
    train(make(seen), ds.torch(batch_rows=None, position_offset=offset), tmp_path, 3)
    assert len(seen) == 3
    assert all(np.array_equal(one, other) for one, other in zip(seen, wanted(ds, 3), strict=True))


def test_a_resumed_trainer_sees_the_rows_that_it_would_have_seen(ds, tmp_path):
    before, after = [], []
    train(bert(before), ds.torch(batch_rows=None), tmp_path, 2)
    train(bert(after), ds.torch(batch_rows=None), tmp_path, 4, resume=True)
    expected = wanted(ds, 4)
    assert len(before) == len(after) == 2
    assert all(np.array_equal(one, other) for one, other in zip(before + after, expected, strict=True))
