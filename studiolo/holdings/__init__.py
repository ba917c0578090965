"""What is at hand in every session: data sets and models, each with a card that says what it is and what it may be used for.

``studiolo.data`` and ``studiolo.models`` are what people type; this package is how they do it.
"""
