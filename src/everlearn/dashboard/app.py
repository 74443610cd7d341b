"""The script that Streamlit runs for each visitor, and again whenever they do something."""

from everlearn.dashboard.shell import run

run()
