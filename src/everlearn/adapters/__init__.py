"""The ports made real: in memory, on SQL, on disk, and towards other tools."""
