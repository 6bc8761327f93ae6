"""To and from HF transformers: a run's model as a folder that `ModernBertForMaskedLM.from_pretrained` loads, and back.

    OUT/config.json                 shape; the rotary bases in the spelling of transformers 4 and in that of 5
    OUT/model.safetensors           float32; the padding of the vocabulary is trimmed, the tied decoder is left out
    OUT/tokenizer.json              as trained with; puts [CLS] and [SEP] around a text as the rows had them
    OUT/tokenizer_config.json, OUT/special_tokens_map.json

`shape` and `weights` say how the two models answer to each other; `export_hf` and `import_hf` go there and back. What
our encoder does not have (biases, dropout, scaled rotary positions, other activations) is refused, except for dropout,
which changes no output. Nothing here needs transformers, and no pickle is ever read.
"""

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
