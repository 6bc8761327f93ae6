"""The peers of the benchmark train on what this trainer trains on."""

import numpy as np
import torch

from mlm_data.loader import Loader
from mlm_data.shards.reader import Dataset
from trainer import peers as pr


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
