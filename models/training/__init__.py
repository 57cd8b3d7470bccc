"""Training: labelled folders → weights, with fixed seeds (``portrait train``).

``train``        maps each part to its trainer; judges existing weights
``dataset``      dataset.yaml → files, columns, label maps of a folder
``splits``       group names → train, dev and test
``calibration``  development scores → temperature and abstention threshold
``averaging``    running average of the weights
``muon``         the optimiser for convolution kernels
``resume``       resumes a training after its last complete epoch

One room per part, each with ``train`` (the loop and the variants) and ``data`` (labelled content as arrays):
``text/``, ``image/``, ``voice/``, ``fusion/``.
"""
