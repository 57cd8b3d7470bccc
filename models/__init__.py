"""Encoders and fusion: content → unit vectors of one 64-d space, and one vector per user. Needs torch.

README.md beside this file explains training, figures and how to add an encoder; ``cards/`` describe the
files of ``weights/``.

``encoder``              the contract of every encoder: decode, encode, content errors
``probes``               contents that every working encoder takes, to tell a broken one
``registry``             settings → loaded encoders, one per modality
``checkpoint``           one safetensors file per model, with its config and figures
``space``                the prototypes of the shared space
``heads``                logits → calibrated labels, ``other`` where unsure
``fusion``               what each modality says about a user → one vector
``device``               auto, cpu or cuda → an available device
``pretrained``           Hugging Face models from a local folder
``file_format``          first bytes of a file → its format
``positional_encoding``  sinusoids for Transformers

Rooms, from the bottom up:

``text/``        reviews → vectors, categories, sentiment, aspects, language
``image/``       photos → vectors, categories, garment labels
``voice/``       clips → vectors, spoken words
``training/``    labelled folders → weights
``evaluation/``  weights and labelled folders → the quality report
"""
