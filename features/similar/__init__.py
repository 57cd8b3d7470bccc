"""Similar users: fused vectors of one profile space → an index → nearest users.

``index``         build, refresh and ask the index
``storage``       its files: complete generations, and a pointer to the current one
``new_profiles``  rows of the ``profiles`` table that an index has not seen
"""
