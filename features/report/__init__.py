"""``portrait report``: tables → one HTML page.

``measure``       all numbers of the report, in bounded memory
``activity``      events and users over time
``groups``        interests, and portraits of groups that share a top category
``drift``         drift of content and of profiles, by modality
``vector_drift``  how far two sets of vectors lie apart
``page``          numbers → HTML (page.html)
``plots``         numbers → inline SVG
"""
