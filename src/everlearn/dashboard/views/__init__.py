"""What is shown, as plain functions: from the API's answers to words, HTML and charts. No Streamlit here."""
