"""Texts as numbers: a book in the package, vocabularies, and tasks on sequences of characters."""
