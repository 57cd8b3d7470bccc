"""Reviews: text → clean text → n-grams or units → vector and heads.

``encoder``      :class:`TextEncoder`, and the table of architectures
``ngrams``       normalised text → hashed n-grams and units; holds the preprocessing version
``language``     text → zh, en or other
``aspects``      text → review aspects with sentiment, by lexicon.yaml
``network``      the network every text encoder shares: n-gram tables, reader, heads
``units``        texts → padded sequences of hashed units
``recurrent``    reader: GRU or LSTM with attention
``transformer``  reader: Transformer encoder
``pretrained``   reader: a frozen language model from a local folder
"""
