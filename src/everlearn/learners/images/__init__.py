"""Images learned exactly: fixed features, and least squares on them in one pass, without keeping an image."""
