"""Audiences: a condition over profiles → users, and portraits of groups.

``language``    condition text → DuckDB SQL
``vocabulary``  the words of the language, and the help page that explains them
``find``        condition → users, and their export
``group``       users → a group portrait, compared with all users
"""
