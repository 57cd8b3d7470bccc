"""The Feast repo of a project.

``definitions``  entity, views and services, generated from ``features.schema``
``apply``        writes a repo (``portrait init``) and applies it (``portrait apply``)
``read``         profiles through ``get_online_features``, as any Feast user reads them
"""
