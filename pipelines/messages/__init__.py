"""What Kafka brings, checked: records → events or rejects. Pure functions, no I/O.

``record``           :class:`Record`, :class:`Rejected` and the enum of reject codes, :class:`Reason`
``parse``            record → :class:`Event` or :class:`Rejected`; fills the numbers of an event
``envelope``         CloudEvents 1.0 in binary and structured mode → :class:`Envelope`
``plain_json``       topics that are not CloudEvents, read through ``mapping:`` of the settings
``content``          what an event may carry: reviews, media types, claim checks
``strict_json``      JSON as RFC 8259 defines it, within limits
``dead_letter``      reject → dead letter, and dead letter → the record it was
``mentioned_users``  rejected record → the user ids in it, so that erased users leave no trace
"""
