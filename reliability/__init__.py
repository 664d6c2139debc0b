"""Commands that try the pack where it could break: over days, with hostile graphs and files, at interrupts.

docs/reliability.md has what came of them. Each is run from the root of the repository, with the host's Python:
``.host/venv/bin/python -m reliability.<name>``.
"""
