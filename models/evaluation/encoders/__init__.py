"""Figures of the encoders.

``steps``           the steps that every modality goes through
``content``         labelled content with the group it belongs to
``retrain``         trainings by seed and by fold
``predictions``     what a model predicted, sample by sample, and figures from it
``summary``         figures with intervals beside baselines
``explanations``    what predictions rest on, and whether hiding it matters
``attribution``     occlusion and integrated gradients
``text``            baselines and explanations for texts
``image``           the same for photos
``voice``           the same for clips
``shared_space``    cross-modal precision
``separate_space``  control of ``shared_space``: encoders without shared targets
"""
