"""The page: try a review, look through a catalog's analyses, read a bundle's evaluation. In a browser, by Streamlit."""
