"""Training of voice encoders.

``train``  the variants, the loop, figures on unseen speakers
``data``   spoken words and other sounds as log-mel frames, split by speaker
"""
