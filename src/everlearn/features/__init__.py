"""From rows to numbers: the schema that checks rows, and the encoder that turns them into arrays."""
