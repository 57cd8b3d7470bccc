"""Training of text encoders.

``train``    the variants, the network over the tables, calibration
``data``     labelled texts, and phrases made here (phrases.yaml)
``tables``   linear classifiers over n-grams
``reader``   training of a reader (GRU, LSTM, Transformer)
``losses``   losses of heads and of the shared space
``metrics``  figures on texts that training has not seen
"""
