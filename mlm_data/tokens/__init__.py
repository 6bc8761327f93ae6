"""Documents to token ids: the engines, the word table, tokenizer training."""
