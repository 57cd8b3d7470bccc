"""The transforms of the graph, in the order in which an event meets them.

``fetch_media``  events → events with their bytes: claim checks resolved from allowed places
``encode``       events of one modality → encoded events (embedding, labels), or rejects
``fold``         encoded events by user shard → stored profiles: read, fold, fuse, compare-and-set
``write``        rows → parquet tables; rejects → dead-letter topics; changes → the changelog topic
``spool``        dead letters too large for their topic → files, and back
``windowing``    when an endless job emits what it has grouped; batch runs need none of it
"""
