"""The window: every model at a glance, and what was decided about each. Streamlit over the client.

It knows the API only through :class:`everlearn.Client`. Who logs in is a user of the installation, with that
user's rights; the tokens stay in this process, and the browser holds an opaque cookie.

``words`` and ``views`` make text, HTML and charts from the API's answers and know nothing of
Streamlit; ``panels`` put them on the screen.
"""
