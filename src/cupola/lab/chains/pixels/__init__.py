"""Where pixels lie and what they are worth there: grids, places in images, reading and resampling."""
