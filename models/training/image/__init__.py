"""Training of image encoders.

``train``    the variants and the loop
``data``     labelled photos as pixels, split without leaks
``augment``  random changes of training pictures
``titles``   pairs of title and photo, for the shared space
``metrics``  calibration, and figures on photos that training has not seen
"""
