"""Our encoder is `ModernBertForMaskedLM`: outputs, gradients, files, there and back."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from mlm_data.config import SpecialTokens
from mlm_data.errors import CheckpointError, InputError, PremaskError, StorageError, TokenizerError
from mlm_data.tokens.bert import bert_settings
from mlm_data.tokens.reference import Reference, from_bytes, load_tokenizer
from tests.synthetic import make_dataset
from tests.trainer.oracle import plain_target_loss
from tests.trainer.precision import both_precisions, tolerance
from trainer.config import ModelSettings, resolve
from trainer.hf.export_hf import export_hf, tokenizer_files
from trainer.hf.import_hf import import_hf
from trainer.hf.shape import hf_config, shape_of
from trainer.hf.weights import from_hf, to_hf
from trainer.kernels.norm import norms_for
from trainer.kernels.products import products_for
from trainer.model.attention import make_attention
from trainer.model.encoder import PADDED_BIAS, Encoder
from trainer.studies.fill import fill
from trainer.training import checkpoint as ck
from trainer.training import runs
from trainer.training.loop import train
from trainer.training.machine import Machine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[dev]'")

SHAPE = ModelSettings(layers=4, width=64, heads=2, intermediate=96)
STD = 0.1  # at 0.02 every layer is close to the identity, and errors hide
TOLERANCE = 1e-5  # of the largest absolute value of the reference
WORDS = "the cat dog sat lay on mat rug and saw a big red old man who ate it all up".split()
TEXTS = (
    "The cat [MASK] on the mat .",
    "a [MASK] man saw the [MASK] dog and ate it",
    "[MASK] " + " ".join(WORDS * 5) + " [MASK]",  # longer than the window
)
PLAIN = Machine(device=torch.device("cpu"), precision=torch.float32, compile=False, deterministic=True)


def wordpiece() -> bytes:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(97, 123)]
    tokens = [*specials, *letters, *(f"##{letter}" for letter in letters), ".", *(w for w in WORDS if len(w) > 1)]
    return json.dumps(bert_settings({t: i for i, t in enumerate(tokens)}, specials, lowercase=True)).encode()


def byte_level() -> bytes:
    """A byte-level BPE whose file says nothing of what stands around a text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    return tokenizer.to_str().encode()


def encoder(
    shape: ModelSettings,
    vocab_size: int,
    *,
    rows: int,
    length: int,
    kind: str = "reference",
    compute: torch.dtype = torch.float32,
) -> Encoder:
    """An encoder with every parameter drawn at STD: norms around 1, decoder bias and all matrices around 0.

    With `segments` for attention it has this machine's own kernels elsewhere, too.
    """
    attention = make_attention(kind, rows=rows, length=length, window=shape.window)
    kernels = {}
    if kind == "segments":
        cpu = torch.device("cpu")
        kernels = {"products": products_for(cpu, compute), "norms": norms_for(cpu, compute)}
    model = Encoder(shape, vocab_size, length=length, attention=attention, compute=compute, **kernels)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.ndim == 1 and name != "decoder_bias" else 0.0
            parameter.normal_(centre, STD, generator=generator)
        model.decoder_bias[vocab_size:] = PADDED_BIAS
    return model


def hf_model(model: Encoder, tokenizer: bytes, positions: int) -> torch.nn.Module:
    """The same weights in transformers."""
    reference = from_bytes(tokenizer)
    config = transformers.ModernBertConfig(**hf_config(model.shape, reference, positions))
    config._attn_implementation = "sdpa"
    hf = transformers.ModernBertForMaskedLM(config).eval()
    missing, unexpected = hf.load_state_dict(to_hf(model.state_dict(), model.vocab_size), strict=False)
    assert missing == ["decoder.weight"]  # tied
    assert unexpected == []
    return hf


def difference(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return ((ours - reference).abs().max() / reference.abs().max()).item()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of two steps on random tokens, exported: RUN and RUN/../hf."""
    folder = tmp_path_factory.mktemp("trained")
    tokenizer = from_bytes(wordpiece())
    data = make_dataset(
        folder / "data", vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.json_bytes, roles=tokenizer.roles
    )
    train(settings(data, folder / "run"))
    return folder / "run"


def settings(data: Path, out: Path, **more):
    values = {
        "model": SHAPE.model_dump(),
        "budget": {"steps": 2},
        "batch_rows": 4,
        "compile": "off",
        "precision": "float32",
        "device": "cpu",
        "optimizer": {"kind": "adamw"},
    }
    return resolve(values=values | {"data": str(data), "out": str(out)} | more)


@pytest.fixture(scope="module", params=[wordpiece, byte_level])
def hf_folder(request, tmp_path_factory) -> Path:
    """A folder that transformers wrote: random weights at STD, and a tokenizer."""
    folder = tmp_path_factory.mktemp("hf") / "source"
    tokenizer = from_bytes(request.param())
    model = encoder(SHAPE, tokenizer.vocab_size, rows=1, length=128)
    hf_model(model, tokenizer.json_bytes, 256).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(request.param())
    return folder


@both_precisions
@pytest.mark.parametrize(
    ("kind", "length", "lengths"),
    [
        ("reference", 256, [[150, 70, 36], [256]]),
        ("segments", 256, [[150, 70, 36], [156, 100]]),
        ("segments", 512, [[330, 3, 179], [512]]),
        ("batched", 256, [[150, 70, 36], [156, 100]]),
        ("batched", 512, [[330, 3, 179], [512]]),  # local layers in blocks of the window
    ],
)
def test_outputs_and_all_gradients_agree_per_segment(kind, length, lengths, precision):
    shape = SHAPE.model_copy(update={"layers": 5})  # global, local, local, global, local
    tokenizer = wordpiece()
    vocab_size = from_bytes(tokenizer).vocab_size
    compute = getattr(torch, precision)
    model = encoder(shape, vocab_size, rows=2, length=length, kind=kind, compute=compute)
    hf = hf_model(model, tokenizer, length)
    generator = torch.Generator().manual_seed(2)
    flat = [size for row in lengths for size in row]
    positions = torch.cat([torch.arange(size) for size in flat]).int()
    borders = torch.tensor([0, *flat]).cumsum(0).int()
    ids = torch.randint(5, vocab_size, (2 * length,), generator=generator)
    places = torch.randperm(2 * length, generator=generator)[:150].sort().values
    targets = torch.randint(5, vocab_size, (150,), generator=generator)

    features = model.features(model(ids.int(), positions, borders, places))
    plain_target_loss(features, model.embedding.weight, model.decoder_bias, targets)[0].backward()
    per_segment = [hf(input_ids=part[None]).logits[0] for part in ids.split(flat)]
    logits = torch.cat(per_segment)[places]
    torch.nn.functional.cross_entropy(logits, targets, reduction="sum").backward()

    error = max(TOLERANCE, tolerance(precision, units=10))
    assert difference(model.logits(features), logits) <= error
    ours = to_hf({name: parameter.grad for name, parameter in model.named_parameters()}, vocab_size)
    theirs = dict(hf.named_parameters())
    assert ours.keys() == theirs.keys()
    worst = max((difference(gradient, theirs[name].grad), name) for name, gradient in ours.items())
    assert worst[0] <= error, worst


@pytest.mark.parametrize("change", [{"window": 63}, {"window": 65}, {"rope_theta": 1e4}, {"global_every": 2}])
def test_the_comparison_would_notice_a_wrong_shape(change):
    model = encoder(SHAPE, 78, rows=1, length=256)
    other = encoder(SHAPE.model_copy(update=change), 78, rows=1, length=256)
    ids = torch.randint(5, 78, (256,), generator=torch.Generator().manual_seed(2)).int()
    batch = ids, torch.arange(256).int(), torch.tensor([0, 256]).int()
    places = torch.arange(256)
    with torch.no_grad():
        right, wrong = (one.logits(one.features(one(*batch)[places])) for one in (model, other))
    assert difference(wrong, right) > 100 * TOLERANCE


def test_an_export_loads_in_transformers_and_gives_the_same(trained, tmp_path):
    assert export_hf(trained, tmp_path / "hf") == []
    names = {path.name for path in (tmp_path / "hf").iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    }
    hf, info = transformers.ModernBertForMaskedLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    own = runs.load(trained, PLAIN, rows=1)
    assert hf.config.vocab_size == own.model.vocab_size < own.model.embedding.weight.shape[0]  # padding is trimmed
    ids = torch.randint(5, own.model.vocab_size, (40,), generator=torch.Generator().manual_seed(3))
    positions = torch.cat([torch.arange(40), torch.arange(24)]).int()
    padded = torch.nn.functional.pad(ids, (0, 24)).int()
    with torch.no_grad():
        x = own.model(padded, positions, torch.tensor([0, 40, 64]).int())
        logits = own.model.logits(own.model.features(x[:40]))
        assert difference(logits, hf(input_ids=ids[None]).logits[0]) <= TOLERANCE


def test_of_phases_the_last_is_exported_and_of_weights_their_average(tmp_path):
    tokenizer = from_bytes(wordpiece())
    data = make_dataset(
        tmp_path / "data", vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.json_bytes, roles=tokenizer.roles
    )
    step = 4 * 64  # token places
    phases = [{"data": str(data), "tokens": 2 * step}, {"data": str(data), "tokens": 3 * step, "rope_theta": 1e6}]
    train(settings(data, tmp_path / "run", phases=phases, ema=0.5))
    export_hf(tmp_path / "run", tmp_path / "hf")
    own = runs.load(tmp_path / "run", PLAIN, rows=1)
    assert own.step == 3
    found = ck.load(own.folder, 3)
    exported = safetensors.torch.load_file(tmp_path / "hf/model.safetensors")
    for name, tensor in to_hf(own.model.state_dict(), tokenizer.vocab_size).items():
        assert torch.equal(exported[name], tensor), name
    assert not torch.equal(exported["model.final_norm.weight"], found.model["final_norm.weight"])
    config = json.loads((tmp_path / "hf/config.json").read_bytes())
    assert config["global_rope_theta"] == config["rope_parameters"]["full_attention"]["rope_theta"] == 1e6


def test_a_role_that_only_the_dataset_knows_is_kept(tmp_path):
    """A tokenizer whose file calls no token a mask, as T5's: `tokenizer.special.mask` named one."""
    renamed = wordpiece().replace(b"[MASK]", b"[BLANK]")
    tokenizer = from_bytes(renamed, SpecialTokens(mask="[BLANK]"))
    data = make_dataset(
        tmp_path / "data", vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.json_bytes, roles=tokenizer.roles
    )
    train(settings(data, tmp_path / "run"))
    own = runs.load(tmp_path / "run", PLAIN, rows=1)
    assert own.tokenizer.roles.mask == tokenizer.roles.mask
    assert len(fill(own, "the cat [BLANK] on the mat")) == 1
    export_hf(tmp_path / "run", tmp_path / "hf")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "hf").mask_token == "[BLANK]"


@pytest.mark.corpora
@pytest.mark.parametrize("name", ["tok/ortx/tokenizer/roberta-base", "tok/minilm"])
def test_known_tokenizers_give_the_same_ids_in_transformers(name, corpora, tmp_path):
    tokenizer = load_tokenizer(corpora / name / "tokenizer.json")
    for file, data in tokenizer_files(tokenizer, 128).items():
        (tmp_path / file).write_bytes(data)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    mask = tokenizer.tokens[tokenizer.roles.mask]
    assert (theirs.mask_token, theirs.pad_token_id) == (mask, tokenizer.roles.pad)
    for text in ("the cat [MASK] on the mat.", "[MASK]a big", "a  [MASK]  b", "café [MASK] naïve ＡＢ ﬁ"):
        text = text.replace("[MASK]", mask)
        assert theirs(text)["input_ids"] == tokenizer.encode_masked(text).tolist()


def test_the_configuration_speaks_to_transformers_4_and_5(trained, tmp_path):
    export_hf(trained, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_bytes())
    assert (config["global_rope_theta"], config["local_rope_theta"]) == (160_000.0, 10_000.0)
    assert config["global_attn_every_n_layers"] == 3
    assert config["rope_parameters"]["full_attention"] == {"rope_type": "default", "rope_theta": 160_000.0}
    assert config["rope_parameters"]["sliding_attention"] == {"rope_type": "default", "rope_theta": 10_000.0}
    assert config["layer_types"] == ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    assert shape_of(config, where="here") == SHAPE
    old = {k: v for k, v in config.items() if k not in ("rope_parameters", "layer_types")}
    new = {k: v for k, v in config.items() if not k.startswith("global_") and k != "local_rope_theta"}
    assert shape_of(old, where="here") == shape_of(new, where="here") == SHAPE


def test_other_rotary_bases_and_layouts_survive():
    shape = ModelSettings(
        layers=5, width=64, heads=2, intermediate=96, global_every=2, window=8, rope_theta=1e6, local_rope_theta=5e3
    )
    config = hf_config(shape, from_bytes(wordpiece()), 64)
    assert shape_of(config, where="here") == shape
    loaded = transformers.ModernBertConfig(**config)
    assert loaded.sliding_window == 8
    assert loaded.rope_parameters["full_attention"]["rope_theta"] == 1e6
    assert loaded.rope_parameters["sliding_attention"]["rope_theta"] == 5e3


def test_there_and_back_changes_no_bit(hf_folder, tmp_path):
    assert import_hf(hf_folder, tmp_path / "run") == []
    export_hf(tmp_path / "run", tmp_path / "hf")
    before = safetensors.torch.load_file(hf_folder / "model.safetensors")
    after = safetensors.torch.load_file(tmp_path / "hf/model.safetensors")
    assert before.keys() - {"decoder.weight"} == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in after)
    configs = [transformers.ModernBertConfig.from_pretrained(folder) for folder in (hf_folder, tmp_path / "hf")]
    assert configs[0].to_diff_dict().keys() <= configs[1].to_dict().keys()
    for name in ("layer_types", "rope_parameters", "local_attention", "max_position_embeddings", "vocab_size"):
        assert getattr(configs[0], name) == getattr(configs[1], name)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_fill_and_the_fill_mask_pipeline_agree(hf_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import_hf(hf_folder, tmp_path / "run")
    export_hf(tmp_path / "run", tmp_path / "hf")
    own = runs.load(tmp_path / "run", PLAIN, rows=1)
    pipe = transformers.pipeline("fill-mask", str(tmp_path / "hf"), top_k=5, device="cpu")
    mask = own.tokenizer.tokens[own.tokenizer.roles.mask]
    for text in (text.replace("[MASK]", mask) for text in TEXTS):
        theirs = pipe(text)
        theirs = [theirs] if text.count(mask) == 1 else theirs
        ours = fill(own, text, top=5)
        assert len(ours) == len(theirs) == text.count(mask)
        for blank, answers in zip(ours, theirs, strict=True):
            assert [one.token for one in blank] == [own.tokenizer.tokens[answer["token"]] for answer in answers]
            for one, answer in zip(blank, answers, strict=True):
                assert one.probability == pytest.approx(answer["score"], rel=1e-4)


def imported(folder: Path, *, positions: int) -> tuple[Reference, Encoder, Path, Path]:
    """A model of transformers imported into a run, and a dataset for it: tokenizer, its weights, data, run."""
    tokenizer = from_bytes(wordpiece())
    model = encoder(SHAPE, tokenizer.vocab_size, rows=1, length=128)
    hf_model(model, tokenizer.json_bytes, positions).save_pretrained(folder / "source")
    (folder / "source/tokenizer.json").write_bytes(wordpiece())
    data = make_dataset(
        folder / "data", vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.json_bytes, roles=tokenizer.roles
    )
    run = folder / "run"
    import_hf(folder / "source", run)
    return tokenizer, model, data, run


def test_training_goes_on_from_an_imported_model(tmp_path):
    tokenizer, model, data, run = imported(tmp_path, positions=256)
    # The recipe's shape is another; the imported one holds. A learning rate of nearly nothing changes nearly nothing.
    still = {"kind": "adamw", "lr": 1e-12}
    first = settings(data, run, model={"layers": 2}, optimizer=still)
    assert train(first)["step"] == 2
    found, _ = ck.latest(run)
    assert found.step == 2
    after = to_hf(found.model, tokenizer.vocab_size)
    for name, tensor in to_hf(model.state_dict(), tokenizer.vocab_size).items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    assert train(first)["step"] == 2  # nothing is left to do
    export_hf(run, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_bytes())["max_position_embeddings"] == 256

    other = make_dataset(tmp_path / "other", vocab_size=tokenizer.vocab_size)
    import_hf(tmp_path / "source", tmp_path / "again")
    with pytest.raises(CheckpointError, match=r"build the dataset with .*tokenizer.json"):
        train(settings(other, tmp_path / "again"))


def test_an_imported_model_takes_a_dataset_whose_markers_stay_whole(tmp_path):
    """Markers make the tokenizer's bytes others, and no id; another tokenizer is refused all the same."""
    own, _, _, run = imported(tmp_path, positions=256)
    marked = from_bytes(wordpiece(), markers=["the"])
    assert marked.sha256 != own.sha256
    facts = {"vocab_size": own.vocab_size, "tokenizer": marked.json_bytes, "roles": own.roles}
    unsaid = make_dataset(tmp_path / "unsaid", **facts)
    with pytest.raises(CheckpointError, match="has another tokenizer than the dataset"):
        train(settings(unsaid, run))
    data = make_dataset(tmp_path / "marked", markers=("the",), **facts)
    assert train(settings(data, run))["step"] == 2
    assert (run / "tokenizer.json").read_bytes() == marked.json_bytes


def test_phases_begin_with_an_imported_model(tmp_path):
    tokenizer, model, data, run = imported(tmp_path, positions=32)
    phases = [{"data": str(data), "tokens": 256}, {"data": str(data), "tokens": 256}]
    chosen = settings(data, run, phases=phases, model={"layers": 2}, optimizer={"kind": "adamw", "lr": 1e-12})
    train(chosen)
    assert train(chosen)["step"] == 1
    found, _ = ck.latest(run / "phase-1")
    for name, tensor in to_hf(model.state_dict(), tokenizer.vocab_size).items():
        after = to_hf(found.model, tokenizer.vocab_size)[name]
        torch.testing.assert_close(after, tensor, rtol=0, atol=1e-6)
    export_hf(run, tmp_path / "out")  # rows of 64 are longer than what the model was made for
    assert json.loads((tmp_path / "out/config.json").read_bytes())["max_position_embeddings"] == 64
    train(settings(data, tmp_path / "plain"))
    with pytest.raises(StorageError, match="holds a run without phases"):
        train(settings(data, tmp_path / "plain", phases=phases))


def test_ids_that_the_tokenizer_lacks_are_left_out_and_told():
    model = encoder(SHAPE, 100, rows=1, length=64)
    tensors, notes = from_hf(to_hf(model.state_dict(), 100), SHAPE, 90, where="here")
    assert notes == ["here: left out 10 ids that its tokenizer does not have"]
    assert tensors["embedding.weight"].shape == (128, 64)
    assert torch.equal(tensors["embedding.weight"][:90], model.embedding.weight[:90])
    assert not tensors["embedding.weight"][90:].any()
    assert (tensors["decoder_bias"][90:] == PADDED_BIAS).all()


@pytest.mark.parametrize("name", ["[BLANK]", {"content": "[BLANK]", "lstrip": False}])
def test_the_mask_that_only_tokenizer_config_names_is_taken(hf_folder, tmp_path, name):
    source = tmp_path / "source"
    shutil.copytree(hf_folder, source)
    data = (source / "tokenizer.json").read_bytes()
    (source / "tokenizer.json").write_bytes(data.replace(b"[MASK]", b"[BLANK]").replace(b"<mask>", b"[BLANK]"))
    (source / "tokenizer_config.json").write_text(json.dumps({"mask_token": name}))
    import_hf(source, tmp_path / "run")
    own = runs.load(tmp_path / "run", PLAIN, rows=1)
    assert own.tokenizer.tokens[own.tokenizer.roles.mask] == "[BLANK]"


def test_half_precision_and_shards_are_read(hf_folder, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(hf_folder, source)
    tensors = safetensors.torch.load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {"weight_map": {}}
    for number, part in enumerate((names[:7], names[7:])):
        file = f"model-{number}.safetensors"
        safetensors.torch.save_file({name: tensors[name].bfloat16() for name in part}, source / file)
        index["weight_map"] |= dict.fromkeys(part, file)
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    import_hf(source, tmp_path / "run")
    found, _ = ck.latest(tmp_path / "run")
    expected = tensors["model.layers.1.attn.Wqkv.weight"].bfloat16().float()
    assert torch.equal(found.model["blocks.1.qkv.weight"], expected)


def spoil(source: Path, name: str, **fields) -> None:
    path = source / name
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


def without(source: Path, *names: str, extra: dict | None = None) -> None:
    tensors = safetensors.torch.load_file(source / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if name not in names} | (extra or {})
    safetensors.torch.save_file(kept, source / "model.safetensors")


def pickled(source: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")


BAD = {
    "no folder": (shutil.rmtree, InputError, "no such folder"),
    "no config": (lambda s: (s / "config.json").unlink(), InputError, "config.json: missing"),
    "config is no JSON": (lambda s: (s / "config.json").write_text("{"), InputError, "config.json: can't be read"),
    "BERT": (lambda s: spoil(s, "config.json", model_type="bert"), InputError, "'bert': only modernbert"),
    "biases": (lambda s: spoil(s, "config.json", mlp_bias=True), InputError, "mlp_bias is True"),
    "activation": (lambda s: spoil(s, "config.json", hidden_activation="relu"), InputError, "'relu'"),
    "odd window": (lambda s: spoil(s, "config.json", local_attention=127), InputError, "127: it must be even"),
    "layer types": (
        lambda s: spoil(s, "config.json", layer_types=["sliding_attention"] * 4),
        InputError,
        "layer_types must be global at every n-th layer",
    ),
    "scaled": (
        lambda s: spoil(s, "config.json", rope_parameters={"full_attention": {"rope_type": "yarn"}}),
        InputError,
        "rotary positions are scaled",
    ),
    "heads": (lambda s: spoil(s, "config.json", num_attention_heads=16), InputError, "must be a multiple of 8"),
    "other width": (lambda s: spoil(s, "config.json", intermediate_size=128), InputError, "config.json asks for"),
    "pickle only": (pickled, InputError, "pickled weights are never loaded"),
    "damaged weights": (lambda s: (s / "model.safetensors").write_bytes(b"no"), InputError, "damaged"),
    "no head": (lambda s: without(s, "head.dense.weight"), InputError, "lacks head.dense.weight"),
    "more": (lambda s: without(s, extra={"pooler": torch.ones(1)}), InputError, "has pooler, which"),
    "untied": (lambda s: without(s, extra={"decoder.weight": torch.ones(1)}), InputError, "not tied"),
    "no tokenizer": (lambda s: (s / "tokenizer.json").unlink(), InputError, "tokenizer.json: can't be read"),
    "other tokenizer": (
        lambda s: (s / "tokenizer.json").write_bytes(byte_level()),
        TokenizerError,
        "the tokenizer has .* ids, the model",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_cannot_be_imported_says_why_in_one_line(case, tmp_path):
    source = tmp_path / "source"
    tokenizer = from_bytes(wordpiece())
    hf_model(encoder(SHAPE, tokenizer.vocab_size, rows=1, length=64), wordpiece(), 64).save_pretrained(source)
    (source / "tokenizer.json").write_bytes(wordpiece())
    act, kind, message = BAD[case]
    act(source)
    with pytest.raises(kind, match=message) as caught:
        import_hf(source, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_nothing_is_overwritten(trained, hf_folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    with pytest.raises(StorageError, match="holds something already"):
        export_hf(trained, tmp_path / "full")
    with pytest.raises(StorageError, match="holds something already"):
        import_hf(hf_folder, tmp_path / "full")
    with pytest.raises(PremaskError, match=r"run.json is missing"):
        export_hf(tmp_path / "full", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
