"""What `premask init` writes."""

TEMPLATE = """\
# A dataset for masked-language-model pretraining.
#   premask plan premask.yaml      what would be read and made; writes nothing
#   premask build premask.yaml     make it
#   premask verify datasets/books  check it
# Any field can be overridden: premask build premask.yaml --set mask.rate=0.15

name: books
output: datasets/books

inputs:
  - path: corpus/**/*.md            # globs; text, jsonl, json, csv, tsv, fasta, parquet, arrow, warc, html; .gz .zst
    documents: file                 # of text files: file | line | paragraph
    # encoding: utf-8               # a byte order mark wins over it
  # - path: web/*.jsonl.zst
  #   text_field: text              # or [title, abstract]; meta.text; messages[].content: parts, a blank line between
  #   id_field: url                 # optional: stands beside each document
  #   keep_fields: [date, licence]  # optional: likewise
  #   quality: [gopher_repetition, gopher_quality, fineweb]   # rules for pages of the web; premask plan forecasts them
  #   weight: 2                     # each document twice, with other masks; 0.5: every other one
  # - path: crawl/*.warc.gz         # WARC, WET and HTML; id_field: url, keep_fields: [host, date, record_id]
  #   extract: resiliparse          # who finds a page's main text: resiliparse | trafilatura | none

tokenizer:
  train: {kind: wordpiece, vocab_size: 8192, lowercase: true}   # wordpiece | bpe | unigram | characters
  #                                 # strip_accents: false, coverage: 0.9995 (of the text, by characters with a token)
  # path: tokenizer.json            # or bring your own (tokenizer.json, vocab.txt, a .model, or their folder)
  # special: {mask: "<mask>"}       # which token plays which role, where it can't be seen
  # engine: auto                    # auto | words | huggingface: the same ids, at another speed

clean:
  unicode: NFC                      # NFC | none
  min_chars: 100                    # shorter documents are dropped (and counted)
  # bad_bytes: quarantine           # or replace, with U+FFFD
  # fix_encoding: true              # find charsets, mend text that was decoded with a wrong one
  # languages: {keep: [en, de]}     # others are dropped; keep: all only scores
  # privacy: [email, ip, phone, iban]         # replaced by <EMAIL> and the like
  # lines: [refinedweb]             # cut menus and counters out of pages; c4 cuts all lines that are no sentences

deduplicate:
  exact: true                       # the first copy in reading order stays
  # near: {}                        # drop what is almost the same as another document
  # lines: {max_copies: 5}          # cut lines that many documents share

# decontaminate: {against: eval/*.jsonl,      # drop documents that hold items of an evaluation
#                 action: cut}                # or take the items out of them
# mixing: {by: source, temperature: 0.5}      # even out inputs, or languages

pack:
  sequence_length: 512              # tokens in a row; a multiple of 8
  long_documents: split             # split | truncate

mask:
  planes: 4                         # epoch e reads plane e mod 4
  kind: token                       # token | whole_word | span | ngram (with ngram: 6, tokens of a run, for k-mers)
  rate: 0.30                        # of the tokens that may be hidden
  mask_share: 0.8                   # of the targets: shown as [MASK],
  random_share: 0.1                 #   as a random token,
  keep_share: 0.1                   #   as they are

split: {validation: 0.01, by: document}   # document | source | one of keep_fields

# seed: 0
# max_quarantined: 0.01             # share of unreadable documents, or bytes, above which the build fails
# max_truncated: 0                  # compressed files that may break off in the middle
# compression: none                 # none can be memory-mapped; zstd or lz4 for cold storage
"""
