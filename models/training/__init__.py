"""Training: labelled folders → weights, with fixed seeds (``portrait train``).

``train``        which part is trained by what; judges existing weights
``dataset``      dataset.yaml → files, columns, label maps of a folder
``splits``       group names → train, dev and test
``calibration``  development scores → temperature and abstention threshold
``averaging``    running average of the weights
``muon``         the optimiser of convolution kernels
``resume``       an interrupted training → its last whole epoch

One room per part, each with ``train`` (the loop and the variants) and ``data`` (labelled content as arrays):
``text/``, ``image/``, ``voice/``, ``fusion/``.
"""
