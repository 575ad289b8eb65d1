"""The bench: what the system reaches, held against a limit or against a baseline that was measured in the same run.

It starts real processes and builds whole systems in virtual time; nothing else imports it. It uses the tests' building
blocks (`tests.simulation`, `tests.support`) rather than ones of its own: what is measured is what is tested.
"""
