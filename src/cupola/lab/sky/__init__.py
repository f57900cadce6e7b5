"""The sky: a map in notebooks (Aladin Lite), images computed for it tile by tile, and catalogues over them."""
