"""What profiles are worth.

``streams``           simulated users, embedded by encoders that never saw their content, folded
``next_category``     ranking of the next category, by every way to fuse
``ablations``         content removed, spoiled, repeated or flooded; other half-lives
``interests``         a prior for new users, several interests per user
``amazon``            real reviewers in their real order
``identity_leakage``  whether a person can be re-identified from preference vectors
"""
