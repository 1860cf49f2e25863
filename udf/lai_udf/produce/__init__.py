"""Many areas over a period on openEO back-ends: tiles, a table of jobs, results on disk.

`plan` cuts polygons into tiles of a fixed grid, makes a row per tile and period and estimates the
size of the jobs, `table` keeps the rows in a file, `manager` creates, follows and downloads the
jobs with the job manager of the openEO client; `order` is all of it.
"""
