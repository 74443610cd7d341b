"""The pages. Each has a ``show(desk)`` that puts it on the screen.

Not in a folder named pages: Streamlit would take the modules of such a one for scripts of its own.
"""
