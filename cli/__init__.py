"""The command `podstrap`: parses, imports one room lazily, prints, exits."""
