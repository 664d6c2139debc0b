"""The study: what the maps, Effect and IMACS are worth, on models of which the truth is known.

``scripts/validate`` runs it and writes docs/validation.md. Each part is a file in ``parts``.
"""
