"""States → what people and services read.

``columns``  states → the columns of both Feast views and of the ``profiles`` table
``tags``     states → category tags and review aspects with weight, confidence and evidence
"""
