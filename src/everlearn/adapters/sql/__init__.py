"""Every store in SQL: SQLite for an embedded installation, PostgreSQL by another URL."""

from __future__ import annotations

from everlearn.adapters.sql.store import SqlStore

__all__ = ["SqlStore"]
