"""Names of the files that one stage leaves for another to read."""

ROWS, TEACHER, LANGUAGES = "rows.parquet", "teacher.safetensors", "languages.json"
"""Of ``parallel``: the rows, their teacher vectors, the languages of the corpus."""
