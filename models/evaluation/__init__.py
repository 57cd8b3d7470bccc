"""The quality report (``portrait evaluate``): weights and labelled folders → JSON, HTML and Markdown.

``plan``        all steps of the report, in order
``runner``      computes the steps that are not computed yet, writes the report
``step``        what a step is: inputs, cost, results
``cache_keys``  inputs and code of a step → the key of its results
``pool``        steps in several processes
``statistics``  bootstrap intervals, paired tests, corrections

Rooms, from the bottom up:

``encoders/``  figures of each encoder: retrained by seed and fold, baselines, explanations
``users/``     what profiles are worth: next category, ablations, leakage
``report/``    results → pages
"""
