"""One file a change of the schema, oldest first. What was released is never edited."""
