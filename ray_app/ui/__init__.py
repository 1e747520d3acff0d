"""The page, a Streamlit app: try a review, look through a catalog's analyses, read a bundle's evaluation.

Streamlit puts this folder on `sys.path`: no module here may have the name of a standard-library module.
"""
