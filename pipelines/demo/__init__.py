"""``portrait demo``: the whole job on one machine, on events that ship with the project.

``demo``    events → broker → job → profiles read through Feast
``events``  ``sample/`` or real content of a folder → messages
``broker``  an embedded broker: librdkafka's mock cluster
"""
