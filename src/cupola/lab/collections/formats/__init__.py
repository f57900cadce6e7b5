"""Readers of file formats that GDAL does not read, or not well enough: gridded data, swaths, FITS, odd PDS labels."""
