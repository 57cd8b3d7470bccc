"""Training of the fusion head.

``train``  fits each kind of fusion, figures on unseen users
``data``   simulated users: streams of content that no encoder was trained on
"""
