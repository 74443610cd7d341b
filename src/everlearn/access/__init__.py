"""Who may do what: principals, roles, scopes, keys, users, sessions, and the rules about them.

Pure: no framework, database or clock. Storage and cryptography come in by the Protocols of
:mod:`everlearn.access.ports`, and every time is given in seconds since the Unix epoch.
"""
