"""The HTTP door: it only does HTTP things. ``api.app.create_app`` puts it together."""
