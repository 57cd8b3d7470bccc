"""The fold: states and encoded events → states, for many users at once, in numpy.

``fold``           the fold itself, and what fusion reads of a state
``packed_state``   states of many users as arrays, and the bytes of one user's record
``decayed_sums``   sums, counts, newest events and evidence, decayed by event time
``replay_window``  which records of each source partition a user has met
``outcome``        which events the fold takes, and what becomes of each
``differences``    whether two states are equal, sums within a tolerance
"""
