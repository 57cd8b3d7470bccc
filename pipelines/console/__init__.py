"""What commands print: profiles, audiences and reports as text or JSON.

``profile``    ``portrait show``: one profile in full, or a table of users
``lookup``     ``portrait lookup``: profiles with their status
``audience``   ``portrait audience`` and ``portrait similar``
``group``      ``portrait group``
``sql``        ``portrait sql``
``run_end``    what became of the records of ``portrait run``
``report``     ``portrait report``
``user_list``  user ids on a command line or in a file → a checked list
``logs``       logging of the command
"""
